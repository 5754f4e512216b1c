"""What one whole process takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    seconds: float
    peak_mib: float
    cpu_seconds: float


def measure(command: list[object], out: Path) -> Run | None:
    """What one whole process took, which writes ``out`` anew; None when it fails."""
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        print(f"{command[0]} … failed: {errors[-400:]}", file=sys.stderr)
        return None
    return Run(time.perf_counter() - began, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)
