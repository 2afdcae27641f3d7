"""Number formats: exact codes and scales, bounds of what they change, and one sentence for what there is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workloads.formats import (
    ACTIVATION_FORMATS,
    WEIGHT_FORMATS,
    WeightFormat,
    encode_e2m1,
    encode_e4m3,
    precision_of,
    unsupported_dtype,
    value_bytes,
)

FORMATS = pytest.mark.parametrize("form", WEIGHT_FORMATS.values(), ids=list(WEIGHT_FORMATS))
LARGEST = {"e4m3": 448.0, "e2m1": 6.0, "int8": 127.0, "int4": 7.0}
STEP = {"e4m3": 2.0**-4, "e2m1": 0.25, "int8": 0.0, "int4": 0.0}
"""Half the distance of two codes over their value; integers have steps of a fixed size instead."""


def matrix_of(seed: int, exponent: int, shape: tuple[int, int] = (128, 256)) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape)
    return np.ldexp(values, exponent).astype(np.float32)


@FORMATS
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-12, 6))
def test_what_comes_back_is_within_half_a_step(form: WeightFormat, seed: int, exponent: int) -> None:
    matrix = matrix_of(seed, exponent)
    codes, scales = form.quantise(matrix)
    back = form.dequantise(codes, scales)
    scale = np.kron(scales, np.ones(form.block))
    top = LARGEST[form.code]
    smallest = {"e4m3": 2.0**-10, "e2m1": 0.25}.get(form.code, 0.5)
    bound = np.maximum(STEP[form.code] * np.abs(matrix), smallest * scale)
    beyond = np.abs(matrix) > top * scale  # saturated: mxfp4's scale of a power of two may be too small by up to 8 / 6
    assert (np.abs(back - matrix) <= bound * (1 + 1e-6))[~beyond].all()
    assert (np.abs(back)[beyond] == top * scale[beyond]).all()
    assert np.abs(matrix / scale).max() < top * (4 / 3 if form.code == "e2m1" else 1 + 2**-8)


@FORMATS
@given(seed=st.integers(0, 2**32 - 1))
def test_packing_loses_nothing_and_takes_the_bytes_that_are_counted(form: WeightFormat, seed: int) -> None:
    codes, scales = form.quantise(matrix_of(seed, -7))
    packed = form.pack(codes, scales)
    again = form.unpack(packed)
    assert (again[0] == codes).all() and (again[1] == scales).all()
    assert codes.dtype == packed.codes.dtype == np.uint8 and codes.max() < len(form.values)
    assert packed.codes.nbytes + packed.scales.size * form.scale_bytes == codes.size * form.element_bytes


@FORMATS
def test_quantising_twice_changes_nothing(form: WeightFormat) -> None:
    back = form.dequantise(*form.quantise(matrix_of(1, -7)))
    if form.code != "e4m3":  # fp32 scales times codes need more bits than the fp32 values that are quantised
        assert (form.dequantise(*form.quantise(back.astype(np.float32))) == back).all()


@FORMATS
def test_a_block_of_zeros_has_the_scale_1(form: WeightFormat) -> None:
    codes, scales = form.quantise(np.zeros((128, 256), np.float32))
    assert (scales == 1).all()
    assert (form.dequantise(codes, scales) == 0).all()
    assert (form.unpack(form.pack(codes, scales))[1] == 1).all()


def test_first_of_two_codes_in_a_byte_is_the_low_one() -> None:
    row = np.zeros((1, 32), np.float32)
    row[0, :2] = 6, -0.5
    form = WEIGHT_FORMATS["mxfp4"]
    assert form.pack(*form.quantise(row)).codes[0, 0] == 0x97


def test_mxfp4_by_hand() -> None:
    """amax 5: the scale is 2**(2 - 2); 2.5 and 5 are ties and go to the even codes 2 and 4, 0.25 to 0."""
    row = np.zeros((1, 32), np.float32)
    row[0, :6] = 5, 2.5, 0.25, 0.75, -3.5, 1.2
    codes, scales = WEIGHT_FORMATS["mxfp4"].quantise(row)
    assert scales == 1
    assert WEIGHT_FORMATS["mxfp4"].dequantise(codes, scales)[0, :6].tolist() == [4, 2, 0, 1, -4, 1]


def test_int4_by_hand() -> None:
    """amax 7 * 0.75: the scale is 0.75, and 0.375 is a tie that goes to 0."""
    row = np.zeros((1, 32), np.float32)
    row[0, :4] = 5.25, -5.25, 0.375, 1.0
    codes, scales = WEIGHT_FORMATS["int4g32"].quantise(row)
    assert (codes[0, :4].tolist(), scales.item()) == ([15, 1, 8, 9], 0.75)


def test_e2m1_has_its_eight_values_and_their_negatives() -> None:
    values = WEIGHT_FORMATS["mxfp4"].values
    assert values[:8].tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert values[8:].tolist() == [-0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
    assert (encode_e2m1(values) == np.arange(16)).all()


@given(matrix=arrays(np.float32, 64, elements=st.floats(-448, 448, width=32)))
def test_e4m3_rounds_as_torch_does(matrix: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.from_numpy(matrix).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    assert (encode_e4m3(matrix) == theirs).all()


def test_e4m3_codes_mean_what_torch_says() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    known = ~np.isnan(theirs)
    assert known.sum() == 254
    assert (WEIGHT_FORMATS["fp8b128"].values == theirs)[known].all()


@pytest.mark.parametrize("name", [name for name in WEIGHT_FORMATS if name.startswith("int")])
def test_integer_scales_are_exact_in_fp16_and_bf16(name: str) -> None:
    _, scales = WEIGHT_FORMATS[name].quantise(matrix_of(3, -7))
    assert (scales.astype(np.float16) == scales).all()
    assert (scales.view(np.uint32) & 0xFFFF == 0).all()


def test_mxfp4_scales_are_powers_of_two() -> None:
    _, scales = WEIGHT_FORMATS["mxfp4"].quantise(matrix_of(3, -7))
    assert (np.frexp(scales)[0] == 0.5).all()


@FORMATS
def test_a_power_of_two_goes_through_the_scales_alone(form: WeightFormat) -> None:
    codes, scales = form.quantise(matrix_of(4, -7))
    other = form.quantise(np.ldexp(matrix_of(4, -7), 5))
    assert (other[0] == codes).all() and (other[1] == np.ldexp(scales, 5)).all()


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-12, 6))
def test_rounded_activations_are_e4m3_of_their_group(seed: int, exponent: int) -> None:
    x = matrix_of(seed, exponent, (4, 256)).astype(np.float64)
    back = ACTIVATION_FORMATS["fp8g128"].rounded(x)
    scale = np.repeat(np.abs(x).reshape(4, 2, 128).max(axis=2) / 448, 128, axis=1)
    assert (np.abs(back - x) <= np.maximum(2.0**-4 * np.abs(x), 2.0**-10 * scale) * (1 + 1e-6)).all()
    assert (ACTIVATION_FORMATS["bf16"].rounded(x) == x).all()
    assert (ACTIVATION_FORMATS["fp8g128"].rounded(np.zeros((1, 128))) == 0).all()


@pytest.mark.parametrize(
    ("dtype", "carrier", "compute", "element_bytes", "value"),
    [
        ("bf16", "bf16", "bf16", 2, 2),
        ("w-fp8b128_a-fp8g128", "bf16", "fp8", 1 + 4 / 16384, 2),
        ("w-mxfp4_a-bf16", "bf16", "bf16", 0.5 + 1 / 32, 2),
        ("w-int8g64_a-fp16", "fp16", "fp16", 1 + 2 / 64, 2),
        ("w-int4g32_a-fp32", "fp32", "fp32", 0.5 + 2 / 32, 4),
    ],
)
def test_a_dtype_says_what_is_stored_and_multiplied(
    dtype: str, carrier: str, compute: str, element_bytes: float, value: int
) -> None:
    found = precision_of(dtype)
    assert (found.carrier, found.compute, found.element_bytes) == (carrier, compute, element_bytes)
    assert (value_bytes(dtype), unsupported_dtype(dtype)) == (value, None)


@pytest.mark.parametrize("dtype", ["w-int4g32_a-fp8g128", "w-fp6_a-bf16", "w-mxfp4_a-int8", "fp64", "w-mxfp4"])
def test_what_there_is_not_is_one_sentence_with_what_there_is(dtype: str) -> None:
    sentence = unsupported_dtype(dtype)
    assert sentence and dtype in sentence and "mxfp4" in sentence and "fp8g128" in sentence


def test_widths_that_no_block_divides_are_refused() -> None:
    assert unsupported_dtype("w-int4g32_a-bf16", (2880, 2880)) is None
    assert "multiples of 128: this layer has one of 2880" in str(unsupported_dtype("w-fp8b128_a-bf16", (4096, 2880)))
