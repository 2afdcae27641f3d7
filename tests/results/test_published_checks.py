"""The published data hang together: every check and every link's share is of a row that is there."""

import csv
import json
import tomllib
from pathlib import Path

import pytest

from benchmarks.published_check import kernels, left_out
from results.hardware import devices
from results.prices import device_prices, list_prices
from results.projection.links import reached
from results.published.shares import FILE, cluster_shares, clusters_text
from workloads.models import models

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published"
ROWS = {row["id"]: row for row in csv.DictReader((FOLDER / "published.csv").open(encoding="utf-8", newline=""))}
CHECKS = tomllib.loads((FOLDER / "checks.toml").read_text(encoding="utf-8"))
DEVICES = {device.id: device for device in devices()}


def test_every_check_is_of_a_published_row_and_says_why_it_differs() -> None:
    found = [check for kind in ("cluster", "kernel", "gemm") for check in CHECKS[kind]]
    assert len(found) >= 8
    for check in found:
        assert check["id"] in ROWS and check["device"] in DEVICES and check["why"], check["id"]
        assert check.get("model", "olmoe-1b-7b") in models()


def test_no_published_row_is_hidden() -> None:
    groups = left_out(CHECKS, ROWS)
    told = [name for names, why in groups if why for name in names]
    compared = [check["id"] for kind in ("cluster", "kernel", "gemm") for check in CHECKS[kind]]
    assert sorted(told + compared) == sorted(ROWS)


def test_the_shares_that_projections_tell_are_those_of_every_check() -> None:
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    assert [row["id"] for row in kept["clusters"]] == [check["id"] for check in CHECKS["cluster"]]
    assert [row["share"] for row in kept["kernels"]] == pytest.approx([one.share for one in kernels(CHECKS, ROWS)])
    assert f"{len(cluster_shares())} published clusters" in clusters_text()
    assert all(0 < one.share <= 1 for one in cluster_shares())


def test_a_rate_a_device_is_the_published_one_in_its_own_unit() -> None:
    for check in CHECKS["cluster"]:
        published = float(ROWS[check["id"]]["value"])
        per_node = "node" in ROWS[check["id"]]["unit"]
        wanted = published / 8 if per_node else published
        assert check["rate"] == wanted or "not computed" in check["rate_how"], check["id"]


def test_what_kernels_reached_of_a_link_is_their_row_over_the_datasheet() -> None:
    for one in reached():
        row, peak = ROWS[one.id], DEVICES[one.device].interconnect_gbs
        assert peak
        shown = float(one.how.split()[0])
        assert str(shown).removesuffix(".0") in row["value"] + row["conditions"], one.id
        own = 7 / 8 if "7/8" in one.how else 1.0
        assert abs(one.share - shown / peak * own) < 0.005, one.id


def test_prices_are_of_known_devices_with_dates_and_sources() -> None:
    for device in DEVICES:
        for price in device_prices(device):
            assert price.low <= price.high and price.date and price.source
    assert all(price.since and price.source for price in list_prices().values())
