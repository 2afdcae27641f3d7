import pytest

from results.compare import compare, targets_side_by_side
from results.tables import DENSE_LABEL, EP_LABEL, Table, comparison_table, label, show_table, targets_table
from tests.results.conftest import OLMOE, WriteRun, ceilings, failed, measurement
from workloads.case import Case

SHARE = "moe-layer/deepseek-v4-flash/ep32/t128/bf16/zipf1.0/throughput"


def only_row(table: Table) -> dict[str, str]:
    ((row,),) = (section.rows for section in table.sections)
    return dict(zip((column.name for column in table.columns), row, strict=True))


def test_a_case_is_a_section_with_a_row_a_measurement(write_run: WriteRun) -> None:
    table = show_table(write_run(*ceilings(), measurement()))
    assert table.sections[0].title == OLMOE
    assert only_row(table) == {
        "target": "torch:cpu",
        "implementation": "sorted",
        "p50": "1.00 ms",
        "±95%": "0.0%",
        "p99": "n=48 [1]",
        "tokens/s": "16.0k",
        "TFLOP/s": "0.0320",
        "GB/s": "4.00",
        "roofline": "40%",
        "status": "ok",
    }
    assert table.notes == ("no p99: it takes 299 samples",)


def test_p99_stands_where_it_is_earned(write_run: WriteRun) -> None:
    line = measurement(samples_ns=[1_000_000] * 304, slots=list(range(16)) * 19)
    assert only_row(show_table(write_run(line)))["p99"] == "1.00 ms"


def test_calls_too_short_to_be_timed_alone_say_so(write_run: WriteRun) -> None:
    table = show_table(write_run(measurement(samples_ns=[16_000] * 6, slots=None, calls_per_sample=16)))
    assert (only_row(table)["p50"], only_row(table)["p99"]) == ("1.00 µs", "- [1]")
    assert "too short to be timed alone" in table.notes[0]


def test_a_failure_shows_its_status_and_reason_and_no_number(write_run: WriteRun) -> None:
    table = show_table(write_run(failed("wrong", "slot 3: expert 5")))
    row = only_row(table)
    assert (row["status"], row["p50"], row["tokens/s"]) == ("wrong [1]", "", "")
    assert table.notes == ("slot 3: expert 5",)


def test_open_and_noisy_are_said(write_run: WriteRun) -> None:
    row = only_row(show_table(write_run(measurement(division="open", warnings=["noisy"]))))
    assert row["status"] == "ok open noisy"


@pytest.mark.parametrize(
    ("case", "said"),
    [(OLMOE, None), (SHARE, EP_LABEL), ("dense-ffn/olmoe-1b-7b/ep8/t16/fp32/none/latency", DENSE_LABEL)],
)
def test_a_share_is_labelled(case: str, said: str | None) -> None:
    assert label(Case.parse(case)) == said


def test_a_label_stands_below_the_table_once(write_run: WriteRun) -> None:
    table = show_table(write_run(failed(case=SHARE), failed(case=SHARE, target="ort:cpu")))
    assert table.sections[0].title == f"{SHARE} [1]"
    assert table.notes == (EP_LABEL, "fp16 is upcast to fp32")


def test_text_is_aligned_and_fits_a_terminal(write_run: WriteRun) -> None:
    run = write_run(*ceilings(), measurement(), measurement(target="ort:cpu", implementation="contrib"))
    lines = show_table(run).text().splitlines()
    assert max(map(len, lines)) <= 100
    torch, ort = (line for line in lines if line.startswith("  torch") or line.startswith("  ort"))
    assert torch.index("1.00 ms") == ort.index("1.00 ms")


def test_targets_stand_side_by_side_with_their_ratio(write_run: WriteRun) -> None:
    run = write_run(measurement(2_000_000), measurement(1_000_000, target="ort:cpu"))
    (section,) = targets_table(targets_side_by_side(run)).sections
    assert [row[:4] for row in section.rows] == [
        ("torch:cpu", "sorted", "2.00 ms", "1"),
        ("ort:cpu", "sorted", "1.00 ms", "0.500"),
    ]


def test_a_case_of_one_target_is_no_comparison(write_run: WriteRun) -> None:
    run = write_run(measurement(), failed(target="ort:cpu"))
    assert targets_table(targets_side_by_side(run)).sections == ()


def test_a_comparison_ends_with_the_geometric_mean(write_run: WriteRun) -> None:
    found = compare(write_run(measurement()), write_run(measurement(1_100_000), name="new"))
    table = comparison_table(found)
    assert table.title == "new against base: change of time, > 0 is slower"
    assert table.sections[0].rows[0][4:] == ("+10.0%", "+10.0% .. +10.0%", "unsure [1]")
    assert table.sections[-1].title == "geometric mean of 1"
    assert "moemark duel" in table.notes[0]


def test_beside_a_choice_of_the_cases_the_mean_is_of_more_than_these(write_run: WriteRun) -> None:
    runs = (write_run(measurement(), measurement(case=SHARE), name=name) for name in ("base", "new"))
    found = compare(*runs)
    titles = [comparison_table(found, pairs).sections[-1].title for pairs in (found.pairs, found.pairs[:1])]
    assert titles == ["geometric mean of 2", "geometric mean of all 2, not only these"]


def test_warnings_of_either_side_stand_below_a_comparison(write_run: WriteRun) -> None:
    found = compare(write_run(measurement(warnings=["contended"])), write_run(measurement(1_100_000), name="new"))
    assert comparison_table(found).notes[1] == "warnings: base contended"
