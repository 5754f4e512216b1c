"""What the tests of building share: images, whole folders as values, the real command in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from octree.pyramid.model import Box
from octree.pyramid.store.arrays import Pyramid, open_pyramid

COMMAND = [sys.executable, "-m", "octree.cli"]


def image(shape: tuple[int, ...], dtype: str = "u2", seed: int = 0) -> np.ndarray:
    """Noise of few bits around a ramp, so that it compresses a little and every place differs."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(shape[-2]), np.arange(shape[-1])) % 97
    if dtype == "?":
        return rng.random(shape) < 0.5
    return (ramp + rng.integers(0, 20, shape)).astype(dtype)


def tree(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with the digest of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def whole_level(pyramid: Pyramid, level: int) -> np.ndarray:
    shape = pyramid.spec.levels[level].shape
    return pyramid.read(level, Box((0,) * len(shape), shape))


def levels_of(folder: Path) -> list[np.ndarray]:
    pyramid = open_pyramid(folder)
    return [whole_level(pyramid, k) for k in range(len(pyramid.spec.levels))]


def octree(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The real command, in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=120, check=False, **options
    )


def octree_json(*args: object, code: int = 0, **options: Any) -> Any:
    """The document that ``--json`` prints; the exit code must be ``code``."""
    done = octree(*args, "--json", **options)
    assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def start(*args: object, **options: Any) -> subprocess.Popen[str]:
    """The real command, running."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*COMMAND, *map(str, args)], **pipes, **options)


def kill_after_lines(args: list[object], lines: int) -> int:
    """Start the command with JSON progress, kill it (SIGKILL) after that many lines; its exit code."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, args), "--progress", "json"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    with process, process.stderr:
        for _ in range(lines):
            if not process.stderr.readline():
                break
        os.kill(process.pid, signal.SIGKILL)
        return process.wait()


def leftovers(folder: Path) -> list[str]:
    """What a build must not leave: beside DEST, and inside."""
    beside = [p.name for p in folder.parent.iterdir() if ".octree-" in p.name]
    inside = [
        p.name
        for p in folder.rglob("*")
        if p.suffix in (".partial", ".__lock") or p.name.startswith(".octree")
    ]
    return beside + inside
