"""One block of numbers against a prediction: always the same bits back, few bytes, and damage is an error."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pantry.core.errors import BadFileError
from pantry.formats.dtypes import ELEMENTS, Element, from_float32, to_float32
from pantry.workshop.delta.codec import decode, decompress, encode

NAMES = sorted(ELEMENTS)
FLOATS = ["bf16", "f16", "f32", "f64"]


def fine_tune(name: str, count: int, strength: float) -> tuple[Any, Any]:
    """(base, target) bit patterns: normal weights and a normal change of `strength` times their size."""
    dice = np.random.default_rng(5)
    element = ELEMENTS[name]
    base = from_float32(dice.normal(0, 0.02, count).astype(np.float32), element)
    moved = to_float32(base, element) + dice.normal(0, 0.02 * strength, count).astype(np.float32)
    return base, from_float32(moved.astype(np.float32), element)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Element, Any, Any]:
    element = ELEMENTS[draw(st.sampled_from(NAMES))]
    shape = draw(st.integers(0, 400))
    words = arrays.arrays(element.words, shape)
    return element, draw(words), draw(words)


@given(blocks())
def test_any_pair_of_blocks_comes_back(case: tuple[Element, Any, Any]) -> None:
    element, target, predicted = case
    assert np.array_equal(decode(encode(target, predicted, element), predicted, element, len(target)), target)
    if len(target):
        assert np.array_equal(decode(encode(target, None, element), None, element, len(target)), target)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 16_383, 16_384, 65_537, 200_001])
def test_random_bits_of_every_format_and_size_come_back(name: str, count: int) -> None:
    element = ELEMENTS[name]
    dice = np.random.default_rng(count)
    target, predicted = (np.frombuffer(dice.bytes(count * element.width), element.words) for _ in range(2))
    assert np.array_equal(decode(encode(target, predicted, element), predicted, element, count), target)


@pytest.mark.parametrize("name", FLOATS)
def test_a_fine_tune_comes_back_in_groups(name: str) -> None:
    base, target = fine_tune(name, 150_000, 0.01)
    coded = encode(target, base, ELEMENTS[name])
    assert coded[0] > 1, "several groups of exponents"
    assert np.array_equal(decode(coded, base, ELEMENTS[name], len(base)), target)


def test_infinities_and_nans_come_back() -> None:
    base, target = fine_tune("bf16", 50_000, 0.01)
    target[::7], target[::11], base[::13] = 0x7F80, 0xFFFF, 0x7FC0
    assert np.array_equal(decode(encode(target, base, ELEMENTS["bf16"]), base, ELEMENTS["bf16"], len(base)), target)


def test_an_unchanged_block_takes_no_bytes() -> None:
    base, _ = fine_tune("bf16", 1000, 0.01)
    assert encode(base.copy(), base, ELEMENTS["bf16"]) == b""
    assert np.array_equal(decode(b"", base, ELEMENTS["bf16"], 1000), base)


@pytest.mark.parametrize(("strength", "most"), [(0.004, 0.175), (0.029, 0.355), (0.096, 0.47)])
def test_grouping_by_exponent_beats_plain_byte_planes(strength: float, most: float) -> None:
    """The bounds lie between the entropy given the exponent and that of plain byte planes (0.20, 0.38, 0.49)."""
    base, target = fine_tune("bf16", 1_000_000, strength)
    assert len(encode(target, base, ELEMENTS["bf16"])) < most * target.nbytes


def test_a_block_cut_short_anywhere_is_refused() -> None:
    base, target = fine_tune("bf16", 40_000, 0.01)
    coded = encode(target, base, ELEMENTS["bf16"])
    for length in [1, 2, 30, len(coded) // 2, len(coded) - 1]:
        with pytest.raises(BadFileError, match="damaged"):
            decode(coded[:length], base, ELEMENTS["bf16"], len(base))
    with pytest.raises(BadFileError, match="longer than its content"):
        decode(coded + b"\0", base, ELEMENTS["bf16"], len(base))


BASE, TARGET = fine_tune("bf16", 20_000, 0.01)
CODED = encode(TARGET, BASE, ELEMENTS["bf16"])


@given(st.integers(0, len(CODED) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_an_error_or_other_numbers_but_no_crash(at: int, flip: int) -> None:
    damaged = bytearray(CODED)
    damaged[at] ^= flip
    with contextlib.suppress(BadFileError):
        assert len(decode(bytes(damaged), BASE, ELEMENTS["bf16"], len(BASE))) == len(BASE)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_block(data: bytes) -> None:
    with contextlib.suppress(BadFileError):
        assert len(decode(data, BASE, ELEMENTS["bf16"], len(BASE))) == len(BASE)


def test_groups_that_do_not_fit_the_base_are_refused() -> None:
    other = (BASE << np.uint16(3)).copy()
    with pytest.raises(BadFileError, match="does not fit its base"):
        decode(CODED, other, ELEMENTS["bf16"], len(BASE))


def test_a_frame_that_claims_gigabytes_is_refused_before_memory_is_taken() -> None:
    bomb = zstandard.ZstdCompressor(level=1, write_content_size=True).compress(bytes(50_000_000))
    with pytest.raises(BadFileError, match="claims is wrong"):
        decompress(bomb, 1000)
    unsized = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(bytes(50_000_000))
    with pytest.raises(BadFileError, match="damaged"):
        decompress(unsized, 1000)


@pytest.mark.parametrize("name", ["bf16", "f16"])
def test_every_bit_pattern_survives_single_precision(name: str) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    element = ELEMENTS[name]
    numbers = every[~np.isnan(to_float32(every, element))]
    assert np.array_equal(from_float32(to_float32(numbers, element), element), numbers)


def test_bfloat16_rounds_to_nearest_even() -> None:
    values = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF], np.uint32).view(np.float32)
    assert from_float32(values, ELEMENTS["bf16"]).tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F80]
