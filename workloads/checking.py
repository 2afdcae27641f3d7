"""Checking: no number without a right answer. Outputs are compared with the float64 reference, before and after timing.

Outputs of workloads that only move data must be equal to the last bit. For all others there are three tests, each with a
stated tolerance (u = 2**-8 bf16, 2**-11 fp16, 2**-24 fp32; K = the longest dot product):

* selection and weights of every own token: the selected experts equal as sets; weights, which every implementation
  computes in fp32, to 2**-24 * (32 + 4 sqrt(K)) relative.
* elements: |y - ref| / (|ref| + scale) <= 8 u + 2 sqrt(K) 2**-24, where scale is the root mean square of the line's
  contributions in quadrature. A line passes about 8 roundings (gate, up, activation, product, expert output, weight,
  weighted output, sum), each with a root mean square of 0.41 u; the sum's deviation is 1.2 u, and 8 u are 6.6 deviations.
  The second term is a running fp32 sum of K products.
* gains: a fault of 1 % in one expert hides below the element tolerance of bf16, so the error of every line is also solved,
  by least squares, for the gain error delta of each contribution. Each |delta| is <= b = max(g, u + 6 s), with g = 0.6 %
  for bf16, in proportion to u for fp16, 1e-5 for fp32: a routing weight may be rounded once (up to u), and s is the
  deviation that other rounding gives the solution: 1.2 u * scale * sqrt((C C^T)^-1_jj) from the elements, which counts for
  minor contributions, and 0.7 u * sqrt(25 / I) from the hidden values, which counts for narrow experts. For each expert
  the mean over its n contributions is <= max(g / 2, sqrt(sum b^2) / n), which is g / sqrt(n) for equal bounds.

What a model's layer has beyond that on the way to an output (`EXTRA_ROUNDINGS`) is counted in: each further rounding raises 8
by one and the two deviations with its root; roundings before an expert's first matmul are roundings of its hidden values, and
without a gate these count twice, the value being squared. Errors from before a latent projection up lie in its range, so that
they average over W values and not over H: s grows by sqrt(H / W). A routing weight on the input acts on a gated product,
which grows with its power of up to 2.28, so there the once rounded weight is allowed 2.3 u.

A case in a weight format (`workloads.formats`) adds to what a line passes: each projection's weights may be rounded once to the
carrier when they are decoded, and so may each projection's rounded activations. Their roundings are those of the carrier, in
quadrature. Where activations are rounded to e4m3 codes (steps of q = 9 % on average), a hidden value that is off by d falls
on another code with the probability |d| / q, and is then off by a whole step: the root mean square is sqrt(|d| q), not |d|.
With d of the hidden value's own roundings, and as much from its group's scale, that is `_flip` = 2.1 % for a bf16 carrier; it
joins the deviation of elements and of hidden values. So wide a tolerance would hide a rounding that was left out (4.5 % of the
line's scale), which is why the root mean square of all errors over the ring is bounded too, by 1.25 deviations = 2.7 %. Right
ones show 1.8 to 2.1 %; leaving out the rounding of hidden values alone shows 2.4 % and is not seen.

Slot 0 is checked in full. Of the other slots lines are drawn with a seed that is chosen after timing, so that every active
expert is covered; all other lines must be finite, with norms within a factor 2 of what the routing weights and slot 0's
per-expert norms predict, or more where slot 0's own norms spread so much that 5 standard deviations (of their logs) are more:
a heavy-tailed activation in narrow experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workloads.formats import Precision
from workloads.problem import SHARED, SOURCE_NAMES, Contribution, Expected, Problem

__all__ = ["Checker", "Tolerance", "WrongAnswer", "line_scales", "tolerance_for"]

UNIT = {"fp32": 2.0**-24, "tf32": 2.0**-11, "bf16": 2.0**-8, "fp16": 2.0**-11}
GAIN = {"fp32": 1e-5, "tf32": 6e-3 / 8, "bf16": 6e-3, "fp16": 6e-3 / 8}
DRAWN_AT_LEAST = 8
FORMAT_ERROR_LINES = 16
"""Lines of each output of slot 0 that show a format's own error."""
ROUNDINGS = 8
ROUNDING = 1.2
"""Standard deviation of an element, in units of u times its line's scale (derivation above)."""
DEVIATIONS = 6.0
SUMMED = 3.0
"""A running sum of K products is off by 2 sqrt(K) 2**-24 at most: 6 deviations of sqrt(K) 2**-24 / SUMMED."""
NORM_DEVIATIONS = 5.0
HIDDEN_ROUNDING = 0.7
"""Standard deviation of a hidden value of an expert (gate, up, product: three roundings), in units of u."""
EXTRA_ROUNDINGS = {
    "latent_down": 1,
    "latent_up": 2,
    "entry_norm": 2,
    "expert_norm": 2,
    "exit_norm": 2,
    "shared_gate": 1,
    "shared_entry_norm": 2,
    "shared_exit_norm": 2,
    "attention_out": 8,
    "kv_a_norm": 6,
    "attention_gate": 2,
    "attention_norm": 2,
    "ffn_norm": 4,
}
"""Weight → roundings that a line passes where the layer has it, beyond the 8 of a plain layer (a norm: its quotient and its
product with the gain; the projection up: its output, and the sum that goes in; attention: see `workloads.attention`; a block's
second norm: the sum that goes in and the one behind the FFN too)."""
BEFORE_EXPERTS = {"latent_down": 1, "entry_norm": 2, "ffn_norm": 3}
BEFORE_SHARED = {"shared_entry_norm": 2, "ffn_norm": 3}
"""Weight → roundings of what an expert reads, or the shared branch."""
ROUTED = 1.2
"""Standard deviation of a routing weight, in units of u, where the router reads such rounded states: 3 roundings give logits,
which have a deviation of some 1.2, one of 0.85 u, and a softmax or a sum of scores takes the difference of two."""
WEIGHT_ON_INPUT = 2.3
"""Power with which an expert's output grows with a weight on its input: silu's steepest 1.28, and 1 of the other projection."""
CODE_STEP = 0.09
"""Distance of two e4m3 codes over their value: 1/8, divided by the mean of a mantissa that is uniform in its logarithm."""
OVERALL = 1.25
KURTOSIS = 25.0
"""Of a gated product of two bell-shaped values: few hidden values carry most of an expert's output."""


class WrongAnswer(Exception):
    """An output is not what the reference says; the message names slot, output and line, and by how much."""


@dataclass(frozen=True)
class Tolerance:
    """What an output may differ by."""

    unit: float
    element: float
    gain: float
    routing: float
    weight: float
    """What rounding a routing weight once does to a contribution, at most."""
    deviation: float
    """Standard deviation of an element, in units of its line's scale."""
    hidden: float
    """Standard deviation of a hidden value, relative."""
    overall: float = math.inf
    """Root mean square of an output's errors, in units of their lines' scales."""
    routed: float = 0.0
    """Standard deviation of a routing weight, relative, beyond the one rounding."""

    def gain_of(self, deviation: np.ndarray) -> np.ndarray:
        """Bound on single gain errors whose standard deviation from rounding is `deviation`."""
        return np.maximum(self.gain, self.weight + DEVIATIONS * deviation)

    def gain_mean(self, squares: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Bound on mean gain errors over `count` contributions whose squared bounds sum to `squares`."""
        return np.maximum(self.gain / 2.0, np.sqrt(squares) / count)


def tolerance_for(problem: Problem, output: str | None = None) -> Tolerance:
    """Tolerances of a case's dtype and dims (derivation above): of one output, or of one that all weights lead to."""
    sizes, way = problem.sizes, problem.way(output)
    longest = math.sqrt(max(sizes.hidden, sizes.inner, sizes.shared_inner, sizes.dense_inner, sizes.attended))
    precision = problem.precision
    unit, single = UNIT[precision.carrier], UNIT["fp32"]
    extra = sum(EXTRA_ROUNDINGS.get(name, 0) for name in way)
    routed = ROUTED * unit if "ffn_norm" in way else 0.0
    decoded = 2 * (precision.quantised + precision.rounds_activations)  # roundings of projections' decoded operands
    hidden = HIDDEN_ROUNDING * unit * math.sqrt((3 + decoded) / 3)
    flip = _flip(precision, hidden)
    plain = math.hypot(_deviation(unit, ROUNDINGS + decoded), flip)
    deviation = math.hypot(_deviation(unit, ROUNDINGS + decoded + extra), flip, longest * single / SUMMED)
    return Tolerance(
        unit=unit,
        element=ROUNDINGS / ROUNDING * plain + extra * unit + 2 * longest * single,
        gain=GAIN[precision.carrier],
        routing=single * (32 + 4 * longest) + DEVIATIONS * routed,
        weight=unit * (WEIGHT_ON_INPUT if problem.model.weight_on_input else 1.0),
        deviation=deviation,
        hidden=math.hypot(hidden, flip),
        overall=OVERALL * deviation if precision.rounds_activations else math.inf,
        routed=routed,
    )


def _deviation(unit: float, roundings: int) -> float:
    """Standard deviation of an element after so many roundings, in units of its line's scale."""
    return ROUNDING * math.sqrt(roundings / ROUNDINGS) * unit


def _flip(precision: Precision, hidden: float) -> float:
    """What hidden values that fall on another code do, for values whose own deviation is `hidden`: sqrt(E|d| q)."""
    if not precision.rounds_activations:
        return 0.0
    distance = math.sqrt(2 / math.pi) * math.sqrt(2) * hidden  # its own and its scale's
    return math.sqrt(distance * CODE_STEP)


@dataclass
class _Worst:
    """The largest errors seen so far."""

    error: float = 0.0
    gain: float = 0.0
    gain_mean: float = 0.0
    lines: int = 0
    slots: int = 0


@dataclass(frozen=True)
class _Gains:
    """Gain errors of contributions, whose they are, and what each may be."""

    source: np.ndarray
    errors: np.ndarray
    bounds: np.ndarray
    squares: float
    """Sum of the squared errors of the elements that they add up to, in units of their lines' scales."""
    elements: int


@dataclass
class Checker:
    """Checks the outputs of one implementation of one problem on one target."""

    problem: Problem
    dtype: str
    tolerance: Tolerance = field(init=False)
    worst: _Worst = field(default_factory=_Worst)
    seed: int | None = None
    reason: str | None = None
    _norms: dict[str, dict[int, float]] = field(default_factory=dict)
    _factors: dict[str, float] = field(default_factory=dict)
    _first: Expected | None = None

    _of_output: dict[str, Tolerance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tolerance = tolerance_for(self.problem)
        self._of_output = {name: tolerance_for(self.problem, name) for name in self.problem.sums}

    def before(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Slot 0 in full. Raises WrongAnswer."""
        expected = self._slot_0()
        self._check_slots({0: expected}, lambda slot: outputs)

    def after(self, fetch: Callable[[int], Mapping[str, np.ndarray]], seed: int) -> None:
        """Every slot through `fetch`, slot 0 in full, the others on lines drawn with `seed`. Raises WrongAnswer."""
        self.seed = seed
        random = np.random.default_rng(seed)
        slots = range(1, len(self.problem.ring))
        drawn = [(slot, self._draw(slot, random)) for slot in slots]
        expected = dict(zip(slots, self.problem.references(drawn), strict=True))
        self._check_slots({0: self._slot_0(), **expected}, fetch)

    def report(self) -> dict[str, Any]:
        """The fields of the record's `Check` that are this checker's to fill."""
        return {
            "seed": self.seed,
            "slots": self.worst.slots,
            "tokens": self.worst.lines,
            "error": self.worst.error,
            "tolerance": max((one.element for one in self._of_output.values()), default=self.tolerance.element),
            "gain": self.worst.gain,
            "gain_tolerance": self.tolerance.gain,
            "gain_mean": self.worst.gain_mean,
            "format_error": self._format_error(),
            "reason": self.reason,
        }

    def _format_error(self) -> float | None:
        """Root mean square of (reference in the case's formats - unquantised one) over the latter's, some lines of slot 0."""
        if self.problem.unquantised is None or self._first is None:
            return None
        chosen = {name: lines[:FORMAT_ERROR_LINES] for name, lines in self._first.lines.items()}
        (plain,) = self.problem.unquantised([(0, chosen)])
        pairs = [(self._first.values[name][: len(lines)], plain.values[name]) for name, lines in chosen.items()]
        error = sum(float(((ours - theirs) ** 2).sum()) for ours, theirs in pairs)
        return math.sqrt(error / sum(float((theirs**2).sum()) for _, theirs in pairs))

    def _slot_0(self) -> Expected:
        if self._first is None:
            self._first = self.problem.reference(0)
            self._norms = {name: _source_norms(parts) for name, parts in self._first.contributions.items()}
            self._factors = {
                name: max(self.problem.norm_factor, math.exp(NORM_DEVIATIONS * _norm_spread(parts)))
                for name, parts in self._first.contributions.items()
            }
        return self._first

    def _draw(self, slot: int, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Lines per output that meet every active expert of the slot, and some more."""
        drawn = {}
        for name in self.problem.sums:
            shape = self.problem.outputs[name]
            line, source = self.problem.sources(slot, name)
            order = random.permutation(len(line))
            _, first = np.unique(source[order], return_index=True)
            extra = random.permutation(shape[0])[:DRAWN_AT_LEAST]
            drawn[name] = np.unique(np.concatenate([line[order][first], extra]).astype(np.int64))
        return drawn

    def _check_slots(self, expected: Mapping[int, Expected], fetch: Callable[[int], Mapping[str, np.ndarray]]) -> None:
        gains: list[_Gains] = []
        try:
            for slot, one in expected.items():
                gains += self._check_slot(slot, one, fetch(slot))
            self._check_means(gains)
            if len(expected) > 1:
                self._check_overall(gains)
        except WrongAnswer as error:
            self.reason = str(error)
            raise
        self.worst.slots = max(self.worst.slots, len(expected))

    def _check_slot(self, slot: int, expected: Expected, outputs: Mapping[str, np.ndarray]) -> list[_Gains]:
        missing = set(self.problem.outputs) - set(outputs)
        if missing:
            raise WrongAnswer(f"slot {slot}: output {sorted(missing)[0]!r} is missing")
        for name, shape in self.problem.outputs.items():
            if tuple(outputs[name].shape) != shape:
                raise WrongAnswer(f"slot {slot}: {name} has shape {tuple(outputs[name].shape)}, not {shape}")
        if expected.ids is not None:
            self._check_routing(slot, expected, outputs)
        for name, whole in expected.exact.items():
            _check_exact(f"slot {slot} {name}", np.asarray(outputs[name]), whole)
            self.worst.lines += len(whole)
        gains = []
        for name, lines in expected.lines.items():
            found = np.asarray(outputs[name], dtype=np.float64)
            self._check_norms(f"slot {slot} {name}", found, expected.routed[name], name)
            gains.append(self._check_lines(f"slot {slot} {name}", lines, found[lines], expected, name))
        return gains

    def _check_routing(self, slot: int, expected: Expected, outputs: Mapping[str, np.ndarray]) -> None:
        """Selected experts as sets, weights expert by expert."""
        ids, weights = np.asarray(outputs["ids"]), np.asarray(outputs["weights"], dtype=np.float64)
        assert expected.ids is not None
        assert expected.weights is not None
        want, got = np.argsort(expected.ids, axis=1), np.argsort(ids, axis=1)
        wrong = (np.take_along_axis(ids, got, 1) != np.take_along_axis(expected.ids, want, 1)).any(axis=1)
        if wrong.any():
            token = int(wrong.argmax())
            chosen = sorted(ids[token].tolist())
            raise WrongAnswer(
                f"slot {slot} token {token}: selected experts {chosen}, planned {sorted(expected.ids[token].tolist())}"
                f" ({int(wrong.sum())} of {len(wrong)} tokens differ)"
            )
        known = np.arange(len(ids)) if expected.weighed is None else expected.weighed
        reference = np.take_along_axis(expected.weights, want, 1)[known]
        error = np.abs(np.take_along_axis(weights, got, 1)[known] - reference) / reference
        self._within(error.max(axis=1), self.tolerance.routing, f"slot {slot} routing weights of token", known)

    def _within(self, errors: np.ndarray, bound: float | np.ndarray, what: str, lines: np.ndarray | None) -> None:
        """Raises WrongAnswer at the error that exceeds its bound by most (NaN counts as above)."""
        share = np.where(np.isnan(errors), np.inf, errors / bound)
        bad = ~(share <= 1.0)
        if bad.any():
            worst = int(share.argmax())
            line = worst if lines is None else int(lines[worst])
            allowed = float(np.broadcast_to(bound, share.shape)[worst])
            count = f"{int(bad.sum())} of {bad.size}"
            raise WrongAnswer(f"{what} {line}: error {errors[worst]:.3g}, tolerance {allowed:.3g} ({count} beyond)")

    def _check_norms(self, where: str, found: np.ndarray, routed: tuple[np.ndarray, ...], name: str) -> None:
        norms = np.sqrt((found**2).sum(axis=1))
        if not np.isfinite(norms).all():
            raise WrongAnswer(f"{where}: line {int((~np.isfinite(norms)).argmax())} is not finite")
        line, source, weight = routed
        known = self._norms[name]
        mean = float(np.mean(list(known.values()))) if known else 1.0
        square = np.array([known.get(int(one), mean) for one in source]) * weight**2
        predicted = np.sqrt(np.bincount(line, weights=square, minlength=len(found)))
        nothing = (predicted == 0) & (norms == 0)  # a line without contributions
        ratio = np.maximum(norms / np.maximum(predicted, 1e-300), predicted / np.maximum(norms, 1e-300))
        ratio = np.where(nothing, 1.0, ratio)
        factor = self._factors[name]
        self._within(ratio, factor, f"{where}: norm against the predicted one (or its inverse) of line", None)

    def _check_lines(self, where: str, lines: np.ndarray, found: np.ndarray, expected: Expected, name: str) -> _Gains:
        """Elements and gains of the compared lines; returns the gain error of every contribution."""
        parts, reference = expected.contributions[name], expected.values[name]
        scale = line_scales(parts, len(lines))
        allowed = np.maximum(np.abs(reference) + scale[:, None], 1e-300)
        error = (np.abs(found - reference) / allowed).max(axis=1)
        self.worst.error = max(self.worst.error, float(np.max(error, initial=0.0)))
        tolerance = self._of_output[name]
        self._within(error, tolerance.element, f"{where} line", lines)
        gains, spread = gain_errors(parts, found - reference)
        spread *= self._mixing(name)
        self.worst.gain = max(self.worst.gain, float(np.max(np.abs(gains), initial=0.0)))
        element = tolerance.deviation * scale[parts.row] * spread
        routed = np.where(parts.source >= 0, tolerance.routed, 0.0)
        inside = np.hypot(self._hidden_deviation(parts.source, name), routed)
        bound = tolerance.gain_of(np.hypot(element, inside))
        self._within(np.abs(gains), bound, f"{where}: gain of an expert's contribution to line", lines[parts.row])
        self.worst.lines += len(lines)
        relative = (found - reference) / scale[:, None]
        return _Gains(parts.source, gains, bound, float((relative**2).sum()), relative.size)

    def _check_overall(self, gains: list[_Gains]) -> None:
        """The root mean square of all errors, over the ring: one slot of few tokens has too few hidden values to average."""
        squares, elements = sum(one.squares for one in gains), sum(one.elements for one in gains)
        overall = math.sqrt(squares / max(1, elements))
        if overall > self.tolerance.overall:
            allowed = f"tolerance {self.tolerance.overall:.3g}"
            raise WrongAnswer(f"root mean square of all errors {overall:.3g}, {allowed}: is every activation rounded?")

    def _mixing(self, output: str) -> float:
        """How much less errors average that a latent projection up has spread over an output."""
        sizes = self.problem.sizes
        return math.sqrt(sizes.hidden / sizes.latent) if sizes.latent and output in ("y", "exit") else 1.0

    def _hidden_deviation(self, source: np.ndarray, output: str) -> np.ndarray:
        """What rounding an FFN's hidden values gives its gain: their errors average over kurtosis-many of `inner`."""
        sizes, way = self.problem.sizes, self.problem.way(output)
        experts, shared = (
            1 + sum(rounds[name] for name in way & rounds.keys()) for rounds in (BEFORE_EXPERTS, BEFORE_SHARED)
        )
        of_expert = _of_hidden(experts + self.problem.model.weight_on_input, sizes.matrices, sizes.inner)
        of_shared = _of_hidden(shared, sizes.matrices, sizes.shared_inner or sizes.dense_inner)
        unit = self._of_output[output].hidden / HIDDEN_ROUNDING
        return unit * np.select([source >= 0, source == SHARED], [of_expert, of_shared], 0.0)

    def _check_means(self, gains: list[_Gains]) -> None:
        """The mean gain error of each expert over all its contributions."""
        if not gains:
            return
        source = np.concatenate([one.source for one in gains]) + len(SOURCE_NAMES)
        count = np.maximum(np.bincount(source), 1)
        mean = np.abs(np.bincount(source, weights=np.concatenate([one.errors for one in gains]))) / count
        squares = np.bincount(source, weights=np.concatenate([one.bounds for one in gains]) ** 2)
        share = mean / self.tolerance.gain_mean(squares, count)
        self.worst.gain_mean = max(self.worst.gain_mean, float(share.max()))
        if share.max() > 1.0:
            worst = int(share.argmax())
            who = SOURCE_NAMES.get(worst - len(SOURCE_NAMES), f"local expert {worst - len(SOURCE_NAMES)}")
            raise WrongAnswer(f"mean gain error of {who} over {count[worst]} contributions is {mean[worst]:.3g}")


def _check_exact(where: str, found: np.ndarray, wanted: np.ndarray) -> None:
    """Raises WrongAnswer at the first value that is not equal."""
    wrong = found != wanted
    if wrong.any():
        place = np.unravel_index(int(wrong.argmax()), wrong.shape)
        at = ", ".join(str(int(one)) for one in place)
        count = f"{int(wrong.sum())} of {wrong.size} differ"
        raise WrongAnswer(f"{where}: value at [{at}] is {found[place]:g}, not {wanted[place]:g} ({count})")


def line_scales(parts: Contribution, lines: int) -> np.ndarray:
    """[lines]: root mean square of each line's contributions in quadrature, what its errors are measured against."""
    return np.sqrt(np.bincount(parts.row, weights=(parts.parts**2).mean(axis=1), minlength=lines))


def gain_errors(parts: Contribution, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares gain error of every contribution, error[line] ~ sum_j delta_j parts_j, and sqrt((C C^T)^-1_jj).

    The second is what a unit deviation of the elements gives delta_j; both [len(parts.row)].
    """
    gains, spread = np.zeros(len(parts.row)), np.zeros(len(parts.row))
    order = np.argsort(parts.row, kind="stable")
    count = np.bincount(parts.row, minlength=len(error))
    start = np.cumsum(count) - count
    for size in np.unique(count[count > 0]):
        lines = np.flatnonzero(count == size)
        members = order[start[lines][:, None] + np.arange(size)]
        stack = parts.parts[members]
        inverse = np.linalg.inv(stack @ stack.transpose(0, 2, 1))
        gains[members] = (inverse @ (stack @ error[lines][:, :, None]))[:, :, 0]
        spread[members] = np.sqrt(np.diagonal(inverse, axis1=1, axis2=2))
    return gains, spread


def _of_hidden(before: int, matrices: int, width: int) -> float:
    """Deviation of an FFN's gain, in units of u, for so many roundings of each projection (1: its own); 0 without an FFN."""
    roundings = (2 * before if matrices == 3 else 4 * before) + 1
    return HIDDEN_ROUNDING * math.sqrt(roundings / 3 * KURTOSIS / width) if width else 0.0


def _source_norms(parts: Contribution) -> dict[int, float]:
    """Mean squared norm of each source's output, its routing weight taken out."""
    square = (parts.parts**2).sum(axis=1) / parts.weight**2
    return {int(one): float(square[parts.source == one].mean()) for one in np.unique(parts.source)}


def _norm_spread(parts: Contribution) -> float:
    """Standard deviation of the log of contributions' norms, their weights taken out; 0 where fewer than two tell."""
    square = (parts.parts**2).sum(axis=1) / parts.weight**2
    logs = np.log(square[square > 0]) / 2
    return float(logs.std()) if len(logs) > 1 else 0.0
