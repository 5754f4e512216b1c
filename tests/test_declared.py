"""What encoded pixels say of their size, without their decoders."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.pyramid.declared import declared_pixels, is_animated

SHAPES = [(64, 64), (37, 91), (200, 300), (1, 5), (257, 1025), (8, 2000)]
ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "jpeg": imagecodecs.jpeg8_encode,
    "lossless jpeg": lambda rgb: imagecodecs.ljpeg_encode(rgb[..., 0].copy()),
    "jpeg 2000": lambda rgb: imagecodecs.jpeg2k_encode(rgb, codecformat="jp2"),
    "jpeg 2000 codestream": lambda rgb: imagecodecs.jpeg2k_encode(rgb, codecformat="j2k"),
    "png": imagecodecs.png_encode,
    "webp": imagecodecs.webp_encode,
    "webp, lossless": lambda rgb: imagecodecs.webp_encode(rgb, lossless=True),
    "jpeg xl": imagecodecs.jpegxl_encode,
    "jpeg xl in boxes": lambda rgb: imagecodecs.jpegxl_encode(rgb, usecontainer=True),
    "jpeg xr": imagecodecs.jpegxr_encode,
    "lerc": lambda rgb: imagecodecs.lerc_encode(rgb[..., 0].copy()),
}


def picture(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ENCODERS)
def test_height_times_width(name: str, shape: tuple[int, int]) -> None:
    assert declared_pixels(bytes(ENCODERS[name](picture(shape)))) == shape[0] * shape[1]


def test_every_band_of_lerc_counts() -> None:
    bands = np.random.default_rng(0).normal(size=(3, 40, 50)).astype("f4")
    assert declared_pixels(bytes(imagecodecs.lerc_encode(bands))) == 3 * 40 * 50


@pytest.mark.parametrize("name", ENCODERS)
@settings(deadline=None)  # a busy machine is no finding
@given(cut=st.integers(0, 200), place=st.integers(0, 199), byte=st.integers(0, 255))
def test_damage_is_never_more_than_a_wrong_number(name: str, cut: int, place: int, byte: int) -> None:
    data = bytearray(ENCODERS[name](picture((37, 91)))[: 200 - cut])
    if place < len(data):
        data[place] = byte
    found = declared_pixels(bytes(data))
    assert found is None or found >= 0


@given(st.binary(max_size=300))
def test_noise_says_nothing(data: bytes) -> None:
    declared_pixels(data)


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("shape", [(64, 64), (700, 33, 3), (1, 9), (513, 1025)])
def test_pictures_are_no_films(shape: tuple[int, ...], container: bool) -> None:
    data = bytes(imagecodecs.jpegxl_encode(np.zeros(shape, "u1"), usecontainer=container))
    assert not is_animated(data)
    assert declared_pixels(data) == shape[0] * shape[1]
    film = bytes(imagecodecs.jpegxl_encode(np.zeros((2, *shape[:2], 3), "u1"), usecontainer=container))
    assert is_animated(film)


def test_a_codestream_in_parts_says_the_same() -> None:
    film = bytes(imagecodecs.jpegxl_encode(np.zeros((2, 700, 33, 3), "u1")))
    parts = [film[:4], film[4:7], film[7:]]
    boxes = b"".join(struct.pack(">I4sI", 12 + len(p), b"jxlp", n) + p for n, p in enumerate(parts))
    data = b"\0\0\0\x0cJXL \r\n\x87\n" + boxes
    assert is_animated(data)
    assert declared_pixels(data) == 700 * 33
    assert not is_animated(b"")
