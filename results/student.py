"""Student's t and Fisher's F, without scipy: this runs inside workers, whose interpreter may have none.

The distribution function is the regularised incomplete beta function, by its continued fraction (Lentz's method; NIST
DLMF 8.17.22); the quantile is found by Newton's method between bounds that close in on it, so that it cannot diverge however
few the degrees of freedom.
"""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["f_above", "t_above", "t_quantile"]

_TINY = 1e-300
_SAME = 1e-13
_FLAT = 1e-6
"""So near the median the density is that of the median, and the tails' digits would not tell."""
_NEAR = 1e-6
"""A step of Newton's method by this share leaves an error of its square."""
_MOST_DEGREES = 1e6
"""Beyond, t is the normal deviate to six digits, and the logarithms of gamma functions would lose theirs."""


@lru_cache(maxsize=4096)
def t_quantile(probability: float, degrees: float) -> float:
    """The t with that probability below it, for 0.5 <= probability < 1 and degrees > 0 (whole or not).

    Raises ValueError outside of that range.
    """
    if not 0.5 <= probability < 1 or not degrees > 0:
        raise ValueError(f"no t quantile at probability {probability} with {degrees} degrees of freedom")
    degrees = min(degrees, _MOST_DEGREES)
    if probability - 0.5 < _FLAT:
        return (probability - 0.5) / _density(0.0, degrees)
    low, high = 0.0, math.inf
    guess = _guess(probability, degrees)
    while high - low > 1e-10 * guess:
        missing = probability - _below(guess, degrees)
        low, high = (guess, high) if missing > 0 else (low, guess)
        step = missing / _density(guess, degrees)
        if abs(step) < _NEAR * guess:
            return guess + step
        guess = guess + step if low < guess + step < high else (low + high) / 2
    return guess


def _guess(probability: float, degrees: float) -> float:
    """Near the quantile where degrees are not few: the normal deviate and its first corrections (NIST DLMF's predecessor,
    Abramowitz and Stegun 26.7.5)."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(probability)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees + second / degrees**2


def _density(t: float, degrees: float) -> float:
    scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    return math.exp(scale - (degrees + 1) / 2 * math.log1p(t * t / degrees))


def t_above(t: float, degrees: float) -> float:
    """Probability of a value above t (of either sign), degrees > 0."""
    degrees = min(degrees, _MOST_DEGREES)
    above = _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2
    return above if t >= 0 else 1 - above


def f_above(ratio: float, degrees: float, degrees_below: float) -> float:
    """Probability that a ratio of two variances, of so many degrees of freedom, exceeds `ratio` >= 0 (Fisher's F)."""
    return _incomplete_beta(degrees_below / (degrees_below + degrees * ratio), degrees_below / 2, degrees / 2)


def _below(t: float, degrees: float) -> float:
    """Probability of a value below t >= 0."""
    return 1 - _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b), regularised."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(x, a, b) / a
    return 1 - front * _continued_fraction(1 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _SAME:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
