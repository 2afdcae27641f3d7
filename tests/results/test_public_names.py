import subprocess
import sys

import pytest

import results


@pytest.mark.parametrize("name", results.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert callable(getattr(results, name)) and getattr(results, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'speed'"):
        results.speed  # noqa: B018


def test_reading_and_showing_load_nothing_heavy() -> None:
    heavy = "{'numpy', 'pandas', 'plotly', 'jinja2', 'torch', 'onnxruntime'}"
    names = "results.read, results.show_table, results.compare_runs, results.write_report"
    code = f"import sys, results; {names}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
