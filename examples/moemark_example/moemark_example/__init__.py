"""Where this package's models are."""

from pathlib import Path

MODELS = Path(__file__).with_name("models.toml")
