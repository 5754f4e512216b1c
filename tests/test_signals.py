"""One SIGTERM or Ctrl-C ends a command, whatever it is doing; nothing swallows it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import image, leftovers, octree_json, tree

ENDING = [signal.SIGINT, signal.SIGTERM]
LOOP = "say()\nwhile True: pass"
SWALLOW = """
say()
while True:
    try:
        while True: pass
    except BaseException: pass
"""
HOLD_THE_LOCK = """
lock, library = ctypes.create_string_buffer(64), ctypes.PyDLL(None)
library.pthread_mutex_lock(lock)
os.write(2, hex(ctypes.addressof(lock)).encode() + b"\\n")
library.pthread_mutex_lock(lock)  # no thread of Python runs any more, whatever comes
"""
WAIT_ELSEWHERE = """
import threading
thread = threading.Thread(target=lambda: ctypes.CDLL(None).sleep(1000))  # not a daemon: the end waits for it
thread.start()
say()
thread.join()
"""
BEGIN = """
import ctypes, os, sys
from octree.cli import signals, watchdog
import octree.pyramid.deadline as deadline, octree.pyramid.sources.plain as plain
import octree.pyramid.building.builder as builder, octree.pyramid.building.job as job, octree.pyramid.building.work as work
import octree.pyramid.sources.describe as describe
signals.GRACE_S, signals.UNHEARD_S = {grace_s}, 0.1
watchdog.UNREAD_S = watchdog.LATE_S = {unread_s}
{before}def say(): os.write(2, b"here\\n")
def stuck(*args, **options):
{body}
{where} = stuck
sys.argv = ["octree", *{args!r}]
from octree.cli import main
main()
"""


def command(
    body: str, where: str, args: list[Any], *, grace_s: float = 60, unread_s: float = 2, before: str = ""
) -> subprocess.Popen[str]:
    """The command, with a part of it replaced by something that does not end."""
    indented = "\n".join("    " + line for line in body.splitlines())
    words = [str(a) for a in args]
    code = BEGIN.format(
        body=indented, where=where, args=words, grace_s=grace_s, unread_s=unread_s, before=before
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OCTREE_OPEN_TIMEOUT": "1ms" if before else ""},
    )


def ended(process: subprocess.Popen[str], number: int, times: int = 1) -> tuple[str, str]:
    """Send the signal when the command says that it is there; what it printed. The exit code must be 130."""
    assert process.stderr is not None
    for line in process.stderr:
        if line == "here\n":
            break
    for _ in range(times):
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    return out, err


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "image.npy", image((300, 300)))
    return tmp_path / "image.npy"


OPENING, PUBLISHING, BEGINNING = "builder.open_source", "job.with_windows", "work.create_level"


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("where", [OPENING, BEGINNING, PUBLISHING])
def test_one_signal_ends_a_build_wherever_it_is(
    tmp_path: Path, source: Path, where: str, number: int
) -> None:
    dest = tmp_path / "p"
    options = ["--tile", "16", "--shard", "1", "--name", "n"]
    _, err = ended(command(LOOP, where, ["build", source, dest, *options]), number)
    assert "go on with: octree build" in err
    octree_json("build", source, dest, *options, "--resume")
    octree_json("build", source, tmp_path / "undisturbed", *options)
    assert tree(dest) == tree(tmp_path / "undisturbed")
    assert leftovers(dest) == []


@pytest.mark.parametrize("body", [SWALLOW, WAIT_ELSEWHERE])
def test_what_swallows_the_signal_is_ended_all_the_same(tmp_path: Path, source: Path, body: str) -> None:
    out, _ = ended(
        command(body, OPENING, ["build", source, tmp_path / "p", "--json"], grace_s=0.5), signal.SIGTERM
    )
    assert json.loads(out)["error"]["kind"] == "interrupted"
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("number", ENDING)
def test_c_code_that_holds_the_lock_is_ended_from_outside(tmp_path: Path, source: Path, number: int) -> None:
    """No thread hears the signal then: another process does, which can only kill."""
    process = command(
        HOLD_THE_LOCK, OPENING, ["build", source, tmp_path / "p", "--json"], grace_s=0, unread_s=0
    )
    assert process.stderr is not None
    lock = process.stderr.readline().strip()
    while lock not in Path(f"/proc/{process.pid}/syscall").read_text().split():
        assert process.poll() is None  # it has said which lock it is about to wait for
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    assert "the signal was not heard" in err
    assert json.loads(out)["error"]["kind"] == "interrupted"
    assert not (tmp_path / "p").exists()


def test_an_opening_that_holds_the_lock_is_ended_from_outside(source: Path) -> None:
    process = command(
        HOLD_THE_LOCK,
        "plain.open_npy",
        ["info", source],
        before="deadline._GRACE_MS = deadline._AGAIN_S = 0\n",
    )
    assert process.stderr is not None
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert "takes longer than 0.001 s to open" in err
    assert "OCTREE_OPEN_TIMEOUT" in err


def test_the_process_beside_a_command_ends_with_it(source: Path) -> None:
    """And holds none of its streams open: whoever reads them hears of the end, also when it is killed."""
    process = command(LOOP, "describe.describe", ["info", source])
    assert process.stderr is not None
    assert process.stderr.readline() == "here\n"
    process.kill()
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("", "", -signal.SIGKILL)


def test_a_command_goes_on_when_the_process_beside_it_is_gone(source: Path) -> None:
    code = "import os, sys, signal\nfork = os.fork\n"
    code += "def no_fork(): raise OSError(11, 'none left')\nos.fork = no_fork\n"
    code += f"sys.argv = ['octree', 'info', {str(source)!r}]\nfrom octree.cli import main\nmain()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_second_signal_ends_at_once(tmp_path: Path, source: Path) -> None:
    body = "import time\n" + SWALLOW
    out, _ = ended(command(body, OPENING, ["build", source, tmp_path / "p", "--json"]), signal.SIGINT, 2)
    assert json.loads(out)["error"]["kind"] == "interrupted"


def test_other_commands_end_too(source: Path) -> None:
    ended(command(LOOP, "describe.describe", ["info", source]), signal.SIGTERM)


def test_a_signal_that_is_to_be_ignored_stays_ignored(tmp_path: Path, source: Path) -> None:
    """As nohup and shells do for what runs in the background."""
    code = "import signal, os, sys\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "from octree.cli.signals import watch\n"
    code += "with watch(): os.kill(os.getpid(), signal.SIGINT)\nprint('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "still here\n", done.stderr


def test_signals_are_as_before_when_a_command_has_ended() -> None:
    code = "import signal\nfrom octree.cli.signals import watch\nbefore = [signal.getsignal(n) for n in (2, 15)]\n"
    code += "with watch(): pass\nassert before == [signal.getsignal(n) for n in (2, 15)]"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ)).returncode == 0
