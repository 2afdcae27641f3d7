"""The tiny models as another package would bring them: for the processes that tests of ranks start."""

from tests.tiny_models import content

__all__ = ["content"]
