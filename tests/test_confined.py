"""Code in a process of its own: what it gives, and what it cannot do to its caller."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.pyramid.confined import Confined, ConfinedFailure
from octree.pyramid.errors import SourceError

MIB = 2**20


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Confined]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made = Confined()
    yield made
    made.close()


def call(
    process: Confined, name: str, *arguments: Any, room_bytes: int = 64 * MIB, deadline_s: float = 60
) -> Any:
    return process.call(f"confined_cases:{name}", *arguments, room_bytes=room_bytes, deadline_s=deadline_s)


def test_facts_come_from_one_other_process(process: Confined) -> None:
    first, _ = call(process, "facts", 4)
    assert first["double"] == 8
    assert first["process"] != os.getpid()
    assert call(process, "facts", 1)[0]["process"] == first["process"]


@pytest.mark.parametrize("name", ["made", "own_memory"])
def test_pixels_stay_when_the_process_is_gone(process: Confined, name: str) -> None:
    _, pixels = call(process, name, 1000)
    process.close()
    np.testing.assert_array_equal(pixels.ravel(), np.arange(pixels.size))
    assert pixels.dtype == np.dtype("u2")


@pytest.mark.parametrize("name", ["takes", "shares"])
def test_memory_ends_where_it_should(process: Confined, name: str) -> None:
    assert call(process, name, 32 * MIB)
    with pytest.raises(ConfinedFailure) as caught:
        call(process, name, 1024 * MIB)
    assert caught.value.reason == "memory"


def test_errors_are_those_of_the_function(process: Confined) -> None:
    with pytest.raises(SourceError, match="no such thing") as caught:
        call(process, "refuses")
    assert (caught.value.hint, caught.value.details) == ("ask for another", {"path": "here"})
    with pytest.raises(ConfinedFailure, match="KeyError: 'inner'"):
        call(process, "fails")


@pytest.mark.parametrize(("name", "words"), [("dies", "signal 11"), ("leaves", "exit code 7")])
def test_an_end_is_an_error_and_the_next_call_has_another_process(
    process: Confined, name: str, words: str
) -> None:
    with pytest.raises(ConfinedFailure, match=words) as caught:
        call(process, name)
    assert caught.value.reason == "died"
    assert call(process, "facts", 2)[0]["double"] == 4


def test_what_never_ends_is_ended(process: Confined) -> None:
    with pytest.raises(ConfinedFailure, match="takes longer") as caught:
        call(process, "never_ends", deadline_s=0)
    assert caught.value.reason == "deadline"
