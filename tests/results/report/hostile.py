"""A record with one text in every string field that a record can have one in, written as a stranger would: by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from results import record
from results.store import RunFile, canonical, read
from tests.results.conftest import OLMOE, ceilings, failed, measurement, run_header

__all__ = ["NASTY", "written"]

ELSEWHERE = "http://127.0.0.1:9/"
NASTY = "".join(
    [
        "</script><script>window.hacked=1</script><!--<script>",
        '<img src="x" onerror="window.hacked=1">',
        '"\'`><svg onload=window.hacked=1><a xlink:href="javascript:window.hacked=1">',
        f"</style><style>*{{background:url({ELSEWHERE}css)}}</style>",
        f'" style="background:url({ELSEWHERE}style)" x="',
        f'<a href="{ELSEWHERE}link">a</a><br><b>%{{x}}</b>',
        "{{ 7*7 }}{% raw %}${7*7}",
        "\u202e\u2066\u0000\u001b[31m\ufeff\u2028\u2029\uffff",
        "</title></textarea></noscript><iframe srcdoc='x'></iframe>",
    ]
)
SHAPED = {"kind", "case", "division", "status", "what", "case_digest", "line_sha256"}
"""Fields that a reader refuses unless they are one of a few words, a case or a digest."""
SKEW = record.Skew(
    expert_load_min=0,
    expert_load_max=4,
    expert_load_mean=2.0,
    expert_load_cv=0.5,
    hotspot_ratio=2.0,
    rank_hotspot_ratio=1.0,
    empty_expert_count=1,
    distinct_experts=8,
    uniform_hotspot_ratio=1.8,
    uniform_rank_hotspot_ratio=1.0,
)


def written(path: Path, text: str, count: int = 2) -> RunFile:
    """A run of an `ok` measurement of each of `count` cases on two targets, and a failed one."""
    first, second = text, text + "2"
    facts = {name: {"name": text, "unit": text, "device_id": text, text: [text]} for name in (first, second)}
    header = run_header(
        (first, second),
        environment={"machine": {"cpu": text}, "targets": facts, text: {text: {text: text}}, "moemark": text},
        options={"precision": 0.01, "implementations": [text], text: text},
        selection=[text],
        **dict.fromkeys(("moemark_version", "started_utc", "selection_digest"), text),
    )
    lines: list[Any] = [header, *ceilings()]
    for number in range(count):
        lines += [_measurement(target, number) for target in (first, second)]
    lines.append(failed("crashed", case=OLMOE.replace("t16", "t1"), target=first))
    lines.append(record.End(lines=len(lines), ended_utc="x"))
    digest, texts = "", []
    for line in lines:
        found = msgspec.to_builtins(line)
        found = found if line is header else _poisoned(found, text)
        digest = hashlib.sha256((canonical(found) + digest).encode(errors="surrogatepass")).hexdigest()
        texts.append(json.dumps(found | {"line_sha256": digest}) + "\n")
    path.write_text("".join(texts))
    return read(path)


def _measurement(target: str, number: int) -> record.Measurement:
    routing = "zipf1.0" if number % 2 == 0 else "uniform"
    case = OLMOE.replace("t16", f"t{2 + number // 2}").replace("zipf1.0", routing)
    skew = msgspec.structs.replace(SKEW, hotspot_ratio=2.0 + number % 2)
    placement = record.Placement(device="x", strays=["x"], casts=["x"], note="x")
    noise = record.Noise(wall_ns=1, throttle_reasons=["x"])
    turn = record.Turn(process=0, samples=48, noise=noise)
    check = record.Check(
        passed=True, before=True, after=True, slots=16, tokens=31, error=0.1, tolerance=1.0, reason="x"
    )
    words: dict[str, Any] = {"clock": "x", "canary": "x", "started_utc": "x", "warnings": ["x"], "reason": "x"}
    return measurement(
        1_000_000 + 9 * number,
        case=case,
        target=target,
        skew=skew,
        placement=placement,
        turns=[turn],
        check=check,
        **words,
    )


def _poisoned(value: Any, text: str, key: str = "") -> Any:
    """The same with the text in place of every string, but where only some words are allowed; targets are it already."""
    if isinstance(value, dict):
        return {name: _poisoned(inner, text, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_poisoned(inner, text, key) for inner in value]
    poison = isinstance(value, str) and key not in SHAPED and not (key == "target" and value.startswith(text))
    poison = poison and not (key == "dtype" and value == "fp32")
    return text if poison else value
