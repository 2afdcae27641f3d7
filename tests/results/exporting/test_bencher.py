"""Against the schema published at https://bencher.dev/bmf.json (read November 2026) and the limits on names of its reference
page (docs/reference/bencher-metric-format): the service itself cannot be installed here."""

import json
from typing import Any

import pytest

from results.exporting.bencher import render
from tests.results.conftest import OLMOE, WriteRun, failed, measurement


def check_schema(document: dict[str, Any]) -> None:
    """patternProperties '.+' → '.+' → {value (required), lower_value, upper_value}: numbers."""
    for benchmark, measures in document.items():
        assert 0 < len(benchmark) <= 1024
        for measure, metric in measures.items():
            assert 0 < len(measure) <= 64
            assert "value" in metric and set(metric) <= {"value", "lower_value", "upper_value"}
            assert all(isinstance(number, int | float) for number in metric.values())


def test_it_follows_the_published_schema(write_run: WriteRun) -> None:
    document = json.loads(render(write_run(measurement(), measurement(implementation="grouped"), failed())))
    assert len(document) == 2
    check_schema(document)


def test_latency_is_in_ns_and_rates_have_their_unit_in_their_name(write_run: WriteRun) -> None:
    measures = json.loads(render(write_run(measurement())))[f"{OLMOE}[torch:cpu-sorted]"]
    values = {name: metric["value"] for name, metric in measures.items()}
    assert values == pytest.approx(
        {"latency": 1e6, "tokens-per-second": 16e3, "tflop-per-second": 0.032, "gb-per-second": 4.0}
    )


def test_bounds_are_the_interval_turned_round_for_rates(write_run: WriteRun) -> None:
    times = [1_000_000 + 10_000 * (i // 16) for i in range(48)]
    (measures,) = json.loads(render(write_run(measurement(samples_ns=times)))).values()
    latency, rate = measures["latency"], measures["tokens-per-second"]
    assert latency["lower_value"] < latency["value"] < latency["upper_value"]
    assert rate["lower_value"] == pytest.approx(16 / latency["upper_value"] * 1e9)
    assert rate["upper_value"] == pytest.approx(16 / latency["lower_value"] * 1e9)


def test_an_interval_without_end_has_no_bounds(write_run: WriteRun) -> None:
    line = measurement(samples_ns=[1_000_000] * 16, slots=list(range(16)))
    (measures,) = json.loads(render(write_run(line))).values()
    assert measures["latency"] == {"value": 1_000_000}
