"""Damage of any kind is a SourceError that names the file, or does not matter; never a traceback, never a hang."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.sources.source import open_source

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FILES = sorted(p.name for p in FIXTURES.iterdir() if p.is_file() and p.suffix not in (".py", ".md"))
FOLDERS = sorted(p.name for p in FIXTURES.iterdir() if p.suffix.startswith(".zarr"))


def read_or_refuse(path: Path) -> bool:
    """True when ``path`` was read, False when it was refused; anything else fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries, about the damage
            with open_source(path) as source:
                if source.nbytes > 1 << 28:  # a damaged header may promise anything
                    source.read(Box((0,) * len(source.shape), (1,) * len(source.shape)))
                else:
                    source.read(Box((0,) * len(source.shape), source.shape))
    except SourceError as error:
        refusal = error
    else:
        return True
    assert path.name in refusal.message or path.name in str(refusal.details), refusal.message
    return False


def flipped(content: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    damaged = bytearray(content)
    # the head is where structure is: half of the flips go there
    for _ in range(int(rng.integers(1, 6))):
        reach = len(damaged) if rng.random() < 0.5 else min(len(damaged), 300)
        damaged[int(rng.integers(0, reach))] = int(rng.integers(0, 256))
    return bytes(damaged)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes(tmp_path: Path, name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    for seed in range(25):
        path = tmp_path / f"{seed}-{name}"
        path.write_bytes(flipped(content, seed))
        read_or_refuse(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_many_times(tmp_path: Path, name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    for seed in range(25, 200):
        path = tmp_path / f"{seed}-{name}"
        path.write_bytes(flipped(content, seed))
        read_or_refuse(path)


@pytest.mark.parametrize("name", FILES)
def test_cut_short(tmp_path: Path, name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    for keep in (0.0, 0.01, 0.1, 0.5, 0.9, 0.99):
        path = tmp_path / f"{keep}-{name}"
        path.write_bytes(content[: int(len(content) * keep)])
        assert not read_or_refuse(path) or keep == 0.99, f"{keep} of {name} was read as if it were all"


@pytest.mark.parametrize("name", FOLDERS)
def test_flipped_metadata(tmp_path: Path, name: str) -> None:
    for file in ("zarr.json", ".zarray"):
        if not (FIXTURES / name / file).exists():
            continue
        content = (FIXTURES / name / file).read_bytes()
        for seed in range(25):
            path = tmp_path / f"{seed}-{file}-{name}"
            shutil.copytree(FIXTURES / name, path)
            (path / file).write_bytes(flipped(content, seed))
            read_or_refuse(path)


@pytest.mark.parametrize("name", FOLDERS)
def test_flipped_chunks(tmp_path: Path, name: str) -> None:
    chunk = max((p for p in (FIXTURES / name).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    for seed in range(10):
        path = tmp_path / f"{seed}-{name}"
        shutil.copytree(FIXTURES / name, path)
        copy = path / chunk.relative_to(FIXTURES / name)
        copy.write_bytes(flipped(chunk.read_bytes(), seed))
        read_or_refuse(path)
