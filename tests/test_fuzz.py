"""The fuzzer: inputs that once went wrong, and that it notices what it is there to notice."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS, STORED = ROOT / "scripts" / "fuzz.d", ROOT / "tests" / "fuzz"


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("targets")


def child(place: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / "child.py"), "--place", str(place), *map(str, words)]
    return subprocess.run(command, cwd=TOOLS, capture_output=True, text=True, check=False)


def test_what_once_went_wrong_is_refused_or_read(tmp_path: Path, targets: Any) -> None:
    inputs = sorted(path for path in STORED.rglob("*") if path.is_file())
    assert inputs
    assert {path.parent.name for path in inputs} <= {target.name for target in targets.TARGETS}
    done = child(tmp_path, "--plain", "--replay", *inputs)
    assert done.returncode == 0, (tmp_path / "current").read_bytes()[:200] + done.stderr[-3000:].encode()


def test_every_target_takes_its_inputs_and_changed_ones(targets: Any) -> None:
    for target in targets.TARGETS:
        seeds = target.seeds()
        assert seeds, target.name
        changed = set()
        for data in seeds[:3]:
            for number in range(25):
                made = target.change(data, Random(number))
                assert made == target.change(data, Random(number)), target.name
                changed.add(made)
        assert len(changed) > 10, target.name


PLANTED = """
import sys
sys.argv = ["child.py", "--plain"]
import child, mutate, targets
from octree.pyramid.errors import SourceError

def run(path):
    data = path.read_bytes()
    if data == b"refuse": raise SourceError("no")
    if data == b"raise": raise KeyError("a")
    if data == b"memory": bytearray(child.MEMORY_BYTES + (1 << 30))
    if data == b"beside": path.parents[1].joinpath("b").write_text("x")
    if data == b"above": path.parents[2].joinpath("b").write_text("x")
    if data == b"guard": path.parents[2].joinpath("guard").write_text("x")
    if data == b"loop":
        while True: pass

target = targets.Target("planted", "a", lambda: [b"x"], mutate.some_bytes, run)
child.limit_memory()
for data in (b"fine", b"refuse", b"raise", b"memory", b"beside", b"above", b"guard", b"loop"):
    child.TIME_S = 1 if data == b"loop" else 60
    bench = child.Bench(child.Path(PLACE), [target])
    try:
        bench.run(target, data)
        print(data.decode(), "passed", flush=True)
    except BaseException as error:
        print(data.decode(), type(error).__name__, error, flush=True)
"""


def test_the_fuzzer_notices(tmp_path: Path) -> None:
    program = PLANTED.replace("PLACE", repr(str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TOOLS, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "fine passed",
        "refuse passed",
        "raise KeyError 'a'",
        "memory MemoryError ",
        "beside AssertionError written outside: {'b'}",
        "above AssertionError written outside: {'b'}",
        "guard AssertionError the file beside was written to",
    ], done.stderr
    assert done.returncode == -signal.SIGALRM  # what does not end is ended
    assert (tmp_path / "current").read_bytes() == b"planted\nloop"


def test_the_parent_tells_findings_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    where = importlib.import_module("run").where
    first = 'File "/x/pyramid/a.py", line 3, in f\\n  File "/y/lib.py", line 9\\nKeyError: 1\\n'.replace(
        "\\n", "\n"
    )
    assert where(first) == "KeyError at a.py:3"
    assert where(first.replace("3", "4")) != where(first)
    assert where("") == "ended by a signal or a limit at ?"
