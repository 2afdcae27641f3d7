"""Measures sizes, or collects what was measured. See the package's text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import benchmarks.end_to_end as package
from benchmarks.end_to_end.rows import dumped, projected, projected_layer, row, write_record
from benchmarks.end_to_end.sizes import MODEL, RANKS, SHARES, SIZES, Share, Size
from benchmarks.ranked import is_rank, run_as_ranks

SHAPES = [(2048, 2048, 2048), (4096, 4096, 4096)]
BY = {"block": ("block",), "MoE layer and attention": ("moe-layer", "attention")}
ORT_SIZES = ("decode-1", "decode-16", "prefill-32", "prefill-256")


def main() -> None:
    """Prints a row a size."""
    options = argparse.ArgumentParser(description=package.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runtime", choices=list(MEASURES), default="torch")
    options.add_argument("--size", action="append", choices=[*SIZES, *SHARES])
    options.add_argument("--folder", type=Path, default=Path("runs/end_to_end"))
    options.add_argument("--collect", type=Path, metavar="FILE")
    chosen = options.parse_args()
    if chosen.collect:
        return _collect(chosen.folder, chosen.collect)
    if chosen.runtime == "ranks" and not is_rank():
        sys.exit(run_as_ranks("benchmarks.end_to_end", RANKS))
    chosen.folder.mkdir(parents=True, exist_ok=True)
    sizes, usual, measure = MEASURES[chosen.runtime]
    if unknown := [name for name in chosen.size or () if name not in sizes]:
        options.error(f"--runtime {chosen.runtime} has no size {unknown[0]}: there are {', '.join(sizes)}")
    waiting = [name for name in chosen.size or usual if not (chosen.folder / f"{chosen.runtime}-{name}.json").exists()]
    measure([sizes[name] for name in waiting], chosen.folder)


def _torch(sizes: Sequence[Size], folder: Path) -> None:
    from benchmarks.end_to_end.torch_model import DTYPE, TorchModel

    whole = TorchModel()
    ceilings = [_of("torch:cpu", one) for one in whole.target.ceilings([DTYPE], SHAPES)]
    about = whole.target.describe()
    for size in sizes:
        samples, problems, experts = whole.measure(size)
        rows = []
        for by, names in BY.items():
            parts = {name: (problems[name], samples.parts[name]) for name in names}
            path = folder / f"torch-{size.name}-{names[0]}.jsonl"
            run = write_record(path, "torch:cpu", about, parts, ceilings)
            found, layers = projected(run, "torch:cpu", size, DTYPE)
            what = {"target": "torch:cpu", "device": about["name"], "model": MODEL, "layers": 16, "dtype": DTYPE}
            rows.append(row(size, samples, experts, by, (found.summed["none"].ns, layers), **what))
        _keep(folder / f"torch-{size.name}.json", rows)


def _ort(sizes: Sequence[Size], folder: Path) -> None:
    from benchmarks.end_to_end.ort_stack import DTYPE, LAYERS, OrtStack

    stack = OrtStack()
    about = stack.target.describe()
    for size in sizes:
        samples, problems, experts = stack.measure(size)
        parts = {"block": (problems["block"], samples.parts["block"])}
        run = write_record(folder / f"ort-{size.name}-block.jsonl", "ort:cpu", about, parts, [])
        _, layers = projected(run, "ort:cpu", size, DTYPE)
        of_stack = layers * LAYERS / 16
        what = {"target": "ort:cpu", "device": about["name"], "model": MODEL, "layers": LAYERS, "dtype": DTYPE}
        _keep(folder / f"ort-{size.name}.json", [row(size, samples, experts, "block", (of_stack, of_stack), **what)])


def _ranks(shares: Sequence[Share], folder: Path) -> None:
    """Both ranks measure, the first one writes."""
    from benchmarks.end_to_end.two_ranks import TARGET, TwoRanks

    pair = TwoRanks()
    about = pair.target.describe()
    waiting = pair.ranks.first(shares)  # the first rank's files may come while the others look
    for share in waiting:
        samples, problems = pair.measure(share)
        if pair.ranks.rank == 0:
            parts = {name: (problem, samples.parts[name]) for name, problem in problems.items()}
            run = write_record(folder / f"ranks-{share.name}.jsonl", TARGET, about, parts, [])
            ns, experts = (
                projected_layer(run, TARGET, share),
                float((problems["moe-layer"].skew or {})["distinct_experts"]),
            )
            what = {"target": TARGET, "device": about["name"], "model": MODEL, "layers": 1, "dtype": "bf16"}
            found = row(
                share, samples, {"planted": experts, "met": experts}, "MoE layer and exchanges", (ns, ns), **what
            )
            _keep(folder / f"ranks-{share.name}.json", [found])
    pair.close()


def _of(target: str, ceiling: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(ceiling, target=target)


Measure = Callable[[Sequence[Any], Path], None]
MEASURES: dict[str, tuple[Mapping[str, Any], Sequence[str], Measure]] = {
    "torch": (SIZES, list(SIZES), _torch),
    "ort": (SIZES, ORT_SIZES, _ort),
    "ranks": (SHARES, list(SHARES), _ranks),
}
"""Runtime → its sizes, those that are measured unless asked otherwise, and how."""


def _keep(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text(dumped(rows), encoding="utf-8")
    for one in rows:
        print(_line(one), flush=True)


def _line(one: dict[str, Any]) -> str:
    errors = [one[f"{what}projected_ns"] / one[f"{what}measured_ns"] - 1 for what in ("", "layers_")]
    pass_, layers = (f"{100 * error:+.1f} %" for error in errors)
    times = f"{one['measured_ns'] / 1e6:.1f} | {one['projected_ns'] / 1e6:.1f} | {pass_} | {layers}"
    experts = f"{one['experts_planted']:g} / {one['experts_met']:g}"
    size = f"{one['phase']} | {one['tokens']} | {one['context'] or ''}"
    return f"| {one['target']} | {one['layers']} layers {one['dtype']} | {size} | {one['by']} | {times} | {experts} |"


def _collect(folder: Path, target: Path) -> None:
    """All rows in the folder into one file, and as a table."""
    rows = [one for path in sorted(folder.glob("*.json")) for one in json.loads(path.read_text(encoding="utf-8"))]
    target.write_text(dumped({"written_by": "python -m benchmarks.end_to_end", "rows": rows}), encoding="utf-8")
    heads = ("target", "model", "phase", "tokens", "context", "projected from", "measured ms", "projected ms", "off")
    print(f"| {' | '.join((*heads, 'layers alone', 'experts planted / met'))} |")
    print("|" + "---|" * 11)
    for one in rows:
        print(_line(one))


if __name__ == "__main__":
    main()
