import numpy as np
import pytest

from results import stacks as module
from results.stacks import medians


@pytest.mark.parametrize("most", [1, 20, 1 << 22])
@pytest.mark.parametrize("axis", [0, 1])
def test_medians_of_arrays_of_several_shapes_are_those_of_each(
    monkeypatch: pytest.MonkeyPatch, most: int, axis: int
) -> None:
    monkeypatch.setattr(module, "MOST_VALUES", most)
    draw = np.random.default_rng(1)
    several = [draw.normal(size=(draw.integers(1, 4), draw.integers(1, 4))) for _ in range(40)]
    for found, one in zip(medians(several, axis), several, strict=True):
        assert np.array_equal(found, np.median(one, axis=axis))


def test_of_nothing_there_are_none() -> None:
    assert medians([], 0) == []
