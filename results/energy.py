"""Energy of sustained work: watts, and joules per token, from the readings of a device's meter.

Mean power is the counter's energy over the time between its first and last reading, where there is a counter; else the
integral of the power readings by the trapezoidal rule over that time. Joules per token are mean power times the time that a
token took:

    J/token = mean W * sum of the windows / (windows * calls per window * tokens per call)

since a watt is a joule a second (SI brochure, 9th edition, table 4). Power is the whole device's, idle power included; the
figure above idle subtracts what the same device drew just before, doing nothing with the same weights in its memory. Both are
of the `scope` that the meter covers: not of the host, nor of fans and power supplies.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from results.record import Measurement, Power, Readings

__all__ = ["LEAST_S", "Energy", "energy_of", "mean_watts", "tokens_per_joule", "why_no_energy"]

LEAST_S = 60.0
"""Shorter work says little of energy: meters average over up to a second, and clocks fall as the device gets warm."""


@dataclass(frozen=True)
class Energy:
    """What sustained work drew."""

    source: str
    scope: str
    mean_w: float
    idle_w: float | None
    joules_per_token: float
    joules_per_token_above_idle: float | None
    readings_per_s: float
    seconds: float
    """Of work: the sum of the windows."""


def energy_of(measurement: Measurement) -> Energy | None:
    """The energy of a measurement; None unless it is `sustained`, long enough, and its device told power or energy."""
    power, cost = measurement.power, measurement.cost
    if power is None or cost is None or why_no_energy(measurement) is not None:
        return None
    watts, idle = mean_watts(power.loaded), mean_watts(power.idle)
    assert watts is not None
    worked_ns = sum(measurement.samples_ns)
    tokens = len(measurement.samples_ns) * measurement.calls_per_sample * cost.tokens
    token_s = worked_ns / 1e9 / tokens
    return Energy(
        source=power.source,
        scope=power.scope,
        mean_w=watts,
        idle_w=idle,
        joules_per_token=watts * token_s,
        joules_per_token_above_idle=None if idle is None else (watts - idle) * token_s,
        readings_per_s=(len(power.loaded.at_ns) - 1) / _seconds(power.loaded),
        seconds=worked_ns / 1e9,
    )


def why_no_energy(measurement: Measurement) -> str | None:
    """Why there are no joules per token of an `ok` sustained measurement; None if there are."""
    power: Power | None = measurement.power
    if power is None:
        return "nothing here tells power"
    if mean_watts(power.loaded) is None:
        return f"{power.source} tells no power here"
    worked_s = sum(measurement.samples_ns) / 1e9
    return f"{worked_s:.3g} s of work: energy takes {LEAST_S:g} s" if worked_s < LEAST_S else None


def tokens_per_joule(energy: Energy) -> float | None:
    """Tokens/J, that is tokens/s per watt drawn, idle power included: 1 / (J/token); None where the meter told no energy."""
    return 1 / energy.joules_per_token if energy.joules_per_token > 0 else None


def mean_watts(readings: Readings) -> float | None:
    """Mean power between the first and the last reading; None where power was not told, or once only."""
    times, seconds = readings.at_ns, _seconds(readings)
    if seconds <= 0:
        return None
    if readings.energy_j:
        return (readings.energy_j[-1] - readings.energy_j[0]) / seconds
    if not readings.power_w:
        return None
    steps = zip(pairwise(times), pairwise(readings.power_w), strict=True)
    return sum((later - sooner) / 1e9 * (a + b) / 2 for (sooner, later), (a, b) in steps) / seconds


def _seconds(readings: Readings) -> float:
    return (readings.at_ns[-1] - readings.at_ns[0]) / 1e9 if readings.at_ns else 0.0
