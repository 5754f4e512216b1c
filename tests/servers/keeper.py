"""Run a program in a process group of its own and kill that when standard input ends: a pipe that whoever starts
this holds. So it ends however the starter does, by SIGKILL too. Usage: keeper.py PROGRAM ARGUMENT..."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread


def main(command: list[str]) -> None:
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the starter's, which ends first
        signal.signal(each, signal.SIG_IGN)
    Thread(target=watch, daemon=True).start()
    sys.exit(program.wait())


class Kept:
    """A program that ends with this process, or by ``close``."""

    def __init__(self, command: list[str], folder: Path, log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-I", __file__, *command],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # signals to the group of whoever starts it must not end it first
            )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
