"""Claims are answered by the rules of seeds/claims.toml, from rows that a reader can look up, and never beyond them."""

from typing import Any

import pytest

from results.claim_rules import RULES
from results.claims import Answer, answers, claim_rows, claims, claims_text
from results.record import Measurement
from tests.results.conftest import WriteRun, failed, measurement, run_header

LAYER = "moe-layer/deepseek-v4-flash/ep{}/t{}/bf16/uniform/latency"
CONTROL = "dense-ffn/deepseek-v4-flash/ep{}/t{}/bf16/none/latency"
COMBINE = "dispatch-combine/deepseek-v4-pro/ep32/t{}/bf16/uniform/latency"


def header(**names: str) -> Any:
    """A run on devices of these names: torch_cuda="NVIDIA H200"."""
    targets = {name.replace("_", ":"): {"name": device, "device_id": device} for name, device in names.items()}
    return run_header(targets, environment={"targets": targets})


H200, ASCEND = header(torch_cuda="NVIDIA H200"), header(torch_npu="Ascend910B2")


def pair(tokens: int, layer_ms: float, ep: int = 1, target: str = "torch:cuda", **changes: Any) -> list[Measurement]:
    """A layer and its control, which takes 1 ms."""
    made: dict[str, Any] = {"target": target, **changes}
    layer = measurement(round(layer_ms * 1e6), case=LAYER.format(ep, tokens), **made)
    return [layer, measurement(1_000_000, case=CONTROL.format(ep, tokens), implementation="plain", **made)]


def by_id(found: list[Answer]) -> dict[str, Answer]:
    return {answer.claim.id: answer for answer in found}


def test_every_claim_names_its_source_its_rule_and_its_measurement() -> None:
    for claim in claims():
        assert claim.source and claim.decides and claim.measures and claim.rule in RULES
    assert len({claim.id for claim in claims()}) == len(claims())


def test_a_record_of_a_cpu_decides_nothing_about_accelerators(write_run: WriteRun) -> None:
    found = by_id(answers([write_run(*pair(16, 5.0, target="torch:cpu"))]))
    words = {name: answer.verdict for name, answer in found.items()}
    assert words == {
        "sizes": "contradicted",
        "efficiency": "undecided",
        "cheaper": "not testable",
        "runs-on-ascend": "undecided",
        "throughput-at-scale": "undecided",
        "porting": "undecided",
        "orders": "not testable",
        "release": "not testable",
    }
    assert all(answer.missing for answer in found.values() if answer.verdict == "undecided")


def test_released_sizes_are_counted_and_shown_beside_the_claim(write_run: WriteRun) -> None:
    sizes = by_id(answers([write_run(measurement())]))["sizes"]
    assert [round(finding.value or 0) for finding in sizes.findings] == [1573, 284]
    assert "huggingface.co/deepseek-ai/DeepSeek-V4-Pro" in (sizes.findings[0].source or "")


def test_one_slow_size_contradicts_the_efficiency_of_a_dense_model(write_run: WriteRun) -> None:
    run = write_run(*pair(1, 1.0), *pair(16, 4.0), *pair(1024, 1.05), header=H200)
    efficiency = by_id(answers([run]))["efficiency"]
    assert efficiency.verdict == "contradicted" and "t16" in efficiency.because
    assert [row.line for row in efficiency.findings[1].rows] == [4, 5]


def test_efficiency_needs_decode_and_prefill_sizes_to_be_supported(write_run: WriteRun) -> None:
    whole = write_run(*pair(16, 1.0), *pair(1024, 1.05), header=H200)
    part = write_run(*pair(16, 1.0), header=H200, name="part")
    assert by_id(answers([whole]))["efficiency"].verdict == "supported"
    undecided = by_id(answers([part]))["efficiency"]
    assert (undecided.verdict, undecided.missing) == ("undecided", ("a size of at least 1,024 tokens",))


@pytest.mark.parametrize("changes", [{"ep": 8}, {"warnings": ["contended"]}], ids=["a share", "contended"])
def test_shares_and_disturbed_rows_are_shown_and_decide_nothing(write_run: WriteRun, changes: dict[str, Any]) -> None:
    run = write_run(*pair(16, 4.0, **changes), header=H200)
    efficiency = by_id(answers([run]))["efficiency"]
    assert efficiency.verdict == "undecided" and len(efficiency.findings) == 1


def test_list_prices_are_divided_and_nothing_is_measured(write_run: WriteRun) -> None:
    cheaper = by_id(answers([write_run(measurement())]))["cheaper"]
    ratios = {finding.says.partition(" times")[0] for finding in cheaper.findings}
    assert {"51.7", "5.05", "15.2"} <= ratios and cheaper.verdict == "not testable"


def test_a_layer_that_also_runs_on_nvidia_contradicts_not_on_nvidia(write_run: WriteRun) -> None:
    npu = write_run(measurement(case=LAYER.format(8, 16), target="torch:npu"), header=ASCEND, name="npu")
    cuda = write_run(measurement(case=LAYER.format(8, 16), target="torch:cuda"), header=H200, name="cuda")
    broken = write_run(failed(case=LAYER.format(8, 16), target="torch:cuda"), header=H200, name="broken")
    assert by_id(answers([npu]))["runs-on-ascend"].verdict == "undecided"
    assert by_id(answers([npu, cuda]))["runs-on-ascend"].verdict == "contradicted"
    assert by_id(answers([npu, broken]))["runs-on-ascend"].verdict == "supported"


@pytest.mark.parametrize("status", ["too-big", "out-of-memory", "timeout"])
def test_what_did_not_fit_or_finish_was_not_tried(write_run: WriteRun, status: str) -> None:
    case = LAYER.format(8, 16)
    npu = write_run(measurement(case=case, target="torch:npu"), header=ASCEND, name="npu")
    no_npu = write_run(failed(status, case=case, target="torch:npu"), header=ASCEND, name="no-npu")
    no_cuda = write_run(failed(status, case=case, target="torch:cuda"), header=H200, name="no-cuda")
    for runs in ([npu, no_cuda], [no_npu], [no_npu, no_cuda]):
        assert by_id(answers(runs))["runs-on-ascend"].verdict == "undecided"


@pytest.mark.parametrize(
    ("npu_ms", "sizes", "verdict"),
    [(1.0, 3, "supported"), (1.5, 3, "contradicted"), (1.5, 2, "undecided")],
)
def test_throughput_at_scale_is_decided_by_groups_of_ranks_alone(
    write_run: WriteRun, npu_ms: float, sizes: int, verdict: str
) -> None:
    def run(target: str, ms: float, about: Any, *cases: str) -> Any:
        lines = [measurement(round(ms * 1e6), case=case, target=target) for case in cases]
        return write_run(*lines, header=about, name=f"{target.replace(':', '-')}-{len(cases)}")

    cases = [COMBINE.format(tokens) for tokens in (1, 16, 128)[:sizes]]
    at_scale = [run("torch:npu", npu_ms, ASCEND, *cases), run("torch:cuda", 1.0, H200, *cases)]
    found = by_id(answers(at_scale))["throughput-at-scale"]
    assert found.verdict == verdict
    if sizes == 3:
        assert "Ascend910B2 took" in found.because and "time of NVIDIA H200; of one process each" in found.because
    alone = [run("torch:npu", 1.0, ASCEND, LAYER.format(8, 16)), run("torch:cuda", 1.0, H200, LAYER.format(8, 16))]
    single = by_id(answers(alone))["throughput-at-scale"]
    assert single.verdict == "undecided" and len(single.findings) == 1 and "there are 0" in single.missing[-1]


@pytest.mark.parametrize(
    ("portable_ms", "right", "verdict"),
    [(1.0, 10, "contradicted"), (3.0, 10, "supported"), (1.0, 4, "supported"), (1.6, 10, "undecided")],
)
def test_porting_is_judged_by_what_runs_unchanged_and_how_far_behind(
    write_run: WriteRun, portable_ms: float, right: int, verdict: str
) -> None:
    cases = [LAYER.format(8, tokens) for tokens in range(1, 11)]
    cuda = write_run(*(measurement(case=case, target="torch:cuda") for case in cases), header=H200, name="cuda")
    lines = []
    for number, case in enumerate(cases):
        made: dict[str, Any] = {"case": case, "target": "torch:npu"}
        lines.append(measurement(round(portable_ms * 1e6), **made) if number < right else failed(**made))
        lines.append(measurement(1_000_000, implementation="npu-fused", division="closed", **made))
    npu = write_run(*lines, header=ASCEND, name="npu")
    porting = by_id(answers([cuda, npu]))["porting"]
    assert porting.verdict == verdict and len(porting.findings[0].rows) == 10
    assert "and 4 more rows, all in --json" in claims_text([porting])


def test_answers_are_read_and_parsed_with_their_rows(write_run: WriteRun) -> None:
    found = answers([write_run(*pair(16, 4.0), header=H200)])
    text, rows = claims_text(found), claim_rows(found)
    assert "CONTRADICTED  efficiency" in text
    assert "base line 2: moe-layer/deepseek-v4-flash/ep1/t16/bf16/uniform/latency torch:cuda sorted" in text
    assert max(map(len, text.splitlines())) <= 160
    row = next(row for row in rows if row["id"] == "efficiency")
    assert row["findings"][0]["rows"][0]["line"] == 2 and row["verdict"] == "contradicted"
