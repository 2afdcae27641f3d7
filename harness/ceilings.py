"""Ceilings: which GEMMs to ask of a device. The target does the work; here is only what to ask.

The pinned list finds a device's fastest square products; the cases' own expert shapes at many rows join it, so that no case
can beat its ceiling by a happier shape.
"""

from __future__ import annotations

from collections.abc import Iterable

from workloads.case import Case
from workloads.formats import precision_of, unsupported_dtype
from workloads.models import model

__all__ = ["wanted"]

CPU_SIZES = (1024, 2048)
ACCELERATOR_SIZES = (2048, 4096, 8192)
CPU_ROWS = 1024
ACCELERATOR_ROWS = 8192
CPU_FLOPS = 30e9
"""Largest product asked of a CPU: about a tenth of a second on a small one."""


def wanted(cases: Iterable[Case], device_type: str) -> tuple[list[str], list[tuple[int, int, int]]]:
    """Dtypes and [M, N, K] shapes that the ceilings of these cases need on a device of that type."""
    cases = list(cases)
    on_cpu = device_type == "cpu"
    squares = [(n, n, n) for n in (CPU_SIZES if on_cpu else ACCELERATOR_SIZES)]
    rows = CPU_ROWS if on_cpu else ACCELERATOR_ROWS
    experts = [shape for name in _models(cases) for shape in _expert_shapes(name, rows)]
    shapes = list(dict.fromkeys(squares + experts))
    if on_cpu:
        shapes = [shape for shape in shapes if 2 * shape[0] * shape[1] * shape[2] <= CPU_FLOPS]
    return list(dict.fromkeys(_computed_in(case.dtype) for case in cases)), shapes


def _computed_in(dtype: str) -> str:
    """What a case multiplies in; a dtype that is not done is left as it is, for no target to know."""
    return dtype if unsupported_dtype(dtype) else precision_of(dtype).compute


def _models(cases: list[Case]) -> list[str]:
    return list(dict.fromkeys(case.model for case in cases))


def _expert_shapes(name: str, rows: int) -> list[tuple[int, int, int]]:
    dims = model(name)
    if not dims.moe_intermediate_size:
        return []
    hidden, inner = dims.hidden_size, dims.moe_intermediate_size
    return [(rows, inner, hidden), (rows, hidden, inner)]
