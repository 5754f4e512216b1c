"""Drawing of volumes against a bare march of one texture and against peers, frame by frame in turns. Prints Markdown.

Peers' environment lies in bench-results/work (made on the first run).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORK = Path("bench-results/work").resolve()
PEERS = WORK / "volume-peers/bin/python"
SIZE = ("512", "512")
VIEWS = (
    ("mip", "dense"),
    ("mean", "dense"),
    ("mip", "sparse"),
    ("alpha", "sparse"),
    ("alpha", "dense"),
    ("iso", "sparse"),
)
OURS, THEIRS = ("bare", "octree"), ("vispy", "vtk-cpu", "vtk-gpu")


def peers_ready() -> bool:
    """Peers in an environment of their own; False when they cannot be installed here."""
    if not PEERS.exists():
        done = subprocess.run([sys.executable, "-m", "venv", WORK / "volume-peers"], check=False)
        pip = [WORK / "volume-peers/bin/pip", "install", "-q", "vtk", "vispy", "PyOpenGL", "numpy"]
        if done.returncode or subprocess.run(pip, check=False, stdout=subprocess.DEVNULL).returncode:
            shutil.rmtree(WORK / "volume-peers", ignore_errors=True)
            return False
    return True


class Contender:
    """A process that draws a frame when asked to."""

    def __init__(self, name: str, mode: str, kind: str, edge: int) -> None:
        python = PEERS if name in THEIRS else sys.executable
        command = [python, HERE / "_volume_views.py", name, mode, kind, *SIZE, edge]
        self._process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._ask, self._answers = self._process.stdin, self._process.stdout
        ready: dict[str, Any] = {}
        for line in self._answers:
            if line.startswith("{"):
                ready = json.loads(line)
                break
        self.is_ready = bool(ready.get("ready"))

    def cpu_ms(self) -> float:
        """Of one more frame."""
        self._ask.write("frame\n")
        self._ask.flush()
        return float(self._answers.readline().split()[1])

    def close(self) -> None:
        self._ask.close()
        self._process.wait()


def frames(edge: int, rounds: int) -> None:
    """A row for each view: processor milliseconds of each contender, and octree's ratio to it."""
    names = [*OURS, *(THEIRS if peers_ready() else ())]
    print(f"One frame of {'x'.join(SIZE)} of a {edge}³ uint16 volume in memory, linear, the same samples; ")
    print("processor time, the least of "  f"{rounds} rounds in turns; in brackets octree's ratio to it.\n")  # fmt: skip
    print(f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for mode, kind in VIEWS:
        contenders = {name: Contender(name, mode, kind, edge) for name in names}
        spent: dict[str, list[float]] = {name: [] for name, each in contenders.items() if each.is_ready}
        for _ in range(rounds):
            for name, times in spent.items():
                times.append(contenders[name].cpu_ms())
        for each in contenders.values():
            each.close()
        least = {name: min(times) for name, times in spent.items()}
        cells = [
            "–"
            if name not in least
            else f"{least[name]:.0f} ms" + (f" ({least['octree'] / least[name]:.2f})" * (name != "octree"))
            for name in names
        ]
        print(f"| {mode}, {kind} | {' | '.join(cells)} |", flush=True)
