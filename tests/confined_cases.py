"""What tests run in a confined process: functions that behave, and some that do not."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import numpy as np

from octree.pyramid.errors import SourceError


def facts(make: Any, number: int) -> tuple[Any, Any]:
    print("what a library prints is no answer")
    return {"double": 2 * number, "process": os.getpid()}, None


def made(make: Any, count: int) -> tuple[Any, Any]:
    pixels = make((count, 3), np.dtype("u2"))
    pixels[...] = np.arange(count * 3).reshape(count, 3)
    return None, pixels


def own_memory(make: Any, count: int) -> tuple[Any, Any]:
    return None, np.arange(count, dtype=">u2")


def takes(make: Any, count: int) -> tuple[Any, Any]:
    return len(bytearray(count)), None


def shares(make: Any, count: int) -> tuple[Any, Any]:
    return None, make((count,), np.dtype("u1"))


def refuses(make: Any) -> tuple[Any, Any]:
    raise SourceError("no such thing", hint="ask for another", path="here")


def fails(make: Any) -> tuple[Any, Any]:
    raise KeyError("inner")


def dies(make: Any) -> tuple[Any, Any]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return None, None


def leaves(make: Any) -> tuple[Any, Any]:
    sys.stdout.flush()
    os._exit(7)


def never_ends(make: Any) -> tuple[Any, Any]:
    threading.Event().wait()
    return None, None
