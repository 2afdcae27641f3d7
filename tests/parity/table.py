"""`python -m tests.parity.table`: the table of differences, for a note."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

from harness.targets import Target
from tests.parity.comparing import difference
from tests.parity.families import NO_MODULE, Family
from tests.parity.others import subjects
from tests.parity.ours import TOKENS, open_targets, outputs_of, problem_of, reference_outputs, tiny, unsupported
from tests.parity.theirs import reference
from workloads.dims import Model
from workloads.models import model

__all__ = ["main"]

HEAD = "| model | module | router, activation | selected | weights: f64, torch, ORT | outputs: f64, torch, ORT |"


KINDS = ("float64", "torch", "onnxruntime")


def main() -> None:
    """Prints one line per model: the largest difference of our float64 reference, torch and ONNX Runtime each."""
    warnings.simplefilter("ignore")
    print(HEAD)
    print("|" + "---|" * (HEAD.count("|") - 1))
    targets = open_targets()
    for family, about in subjects():
        print(f"| {about.id}{family.variant} | {family.module} | {' | '.join(_cells(family, about, targets))} |")
    for name, reason in NO_MODULE.items():
        print(f"| {name} | - | {model(name).router}, {model(name).activation} | - | {reason} | |")


def _cells(family: Family, about: Model, targets: Mapping[str, Target]) -> Iterator[str]:
    yield f"{about.router}, {about.activation}"
    if reason := unsupported(family, about):
        yield from ("-", reason, "")
        return
    small = tiny(about)
    theirs = reference(family, small, TOKENS)
    problem = problem_of(family, small, theirs)
    outputs = [("float64", reference_outputs(problem)), *outputs_of(problem, targets)]
    found = [(which.split()[0], difference(ours, theirs)) for which, ours in outputs]
    yield "equal" if all(one.selected for _, one in found) else "DIFFERENT"
    for what in ("weights", "y"):
        yield ", ".join(f"{max(getattr(one, what) for kind, one in found if kind == key):.0e}" for key in KINDS)


if __name__ == "__main__":
    main()
