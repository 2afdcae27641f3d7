"""The pytest plugin: `pytest --moemark SUITE --moemark-target torch:cpu` makes every case a test of pytest-benchmark.

Without `--moemark` it is four options and nothing else: what works is in `harness.pytest_cases`, imported when it is asked for.
Installed, pytest finds it by itself; from a bare checkout: `python -m pytest -p harness.pytest_plugin`. The entry point has
the name of this module, so that both at once are one plugin.
"""

from __future__ import annotations

import pytest

__all__ = ["pytest_addoption", "pytest_configure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("moemark", "Mixture-of-Experts benchmarks (moemark, timed by pytest-benchmark)")
    group.addoption(
        "--moemark",
        action="append",
        default=[],
        metavar="SUITE|PATTERN",
        help="Make these cases tests, and collect nothing else unless a path is named. May repeat.",
    )
    group.addoption(
        "--moemark-target",
        action="append",
        default=[],
        metavar="TARGET",
        help="KIND:DEVICE[?option=value], opened in this process: torch:cpu, ort:cpu, torch:cuda, ... May repeat.",
    )
    group.addoption(
        "--moemark-implementation",
        action="append",
        default=[],
        metavar="NAME",
        help="Only this implementation. May repeat. Default: those that `moemark run` takes.",
    )
    group.addoption(
        "--moemark-ceilings",
        action="store_true",
        help="Measure the ceilings of each target too, so that extra_info has the roofline.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """With `--moemark`, registers what collects and measures. Raises UsageError for what is missing."""
    if not config.getoption("moemark"):
        if config.getoption("moemark_target") or config.getoption("moemark_implementation"):
            raise pytest.UsageError("--moemark-target needs cases: --moemark SUITE (moemark list suites) or a pattern")
        return
    if not hasattr(config.option, "benchmark_json"):
        raise pytest.UsageError("--moemark needs the plugin pytest-benchmark: pip install 'moemark[pytest]'")
    if not config.getoption("moemark_target"):
        raise pytest.UsageError("--moemark needs a target: --moemark-target torch:cpu (moemark devices lists them)")
    from harness.pytest_cases import Cases

    config.addinivalue_line("markers", "moemark: a case of moemark on one target by one implementation.")
    config.pluginmanager.register(Cases(config), "moemark-cases")
