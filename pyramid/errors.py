"""The error tree. Every failure a user can meet is one of these; the command line maps each to an exit code.

OctreeError            1
├── UsageError         2    also ValueError
├── SourceError        3    missing, corrupt, unsupported SOURCE or PYRAMID
│   ├── SourceNotFound 3    also FileNotFoundError
│   ├── OutsideError   3    a source leads out of its own folder
│   └── LimitError     3    decoding it would take more than --max-pixels or --max-decoded allow
├── DestinationError   4    DEST exists, is locked, or cannot be used
├── WriteError         5    no space, or writing failed; also OSError
├── GLError            6    no usable OpenGL, or a call failed
└── Interrupted      130    stopped by the user

What goes well and yet not as one might think is a ``SourceWarning``, given by ``warnings.warn``.
"""

from __future__ import annotations

from typing import Any


class OctreeError(Exception):
    """What happened, where and why (``message``), and what to do about it (``hint``).

    ``details`` are JSON-able facts for ``--json``: a path, a chunk, bytes needed and free.
    """

    kind = "error"
    exit_code = 1
    final = False
    """Trying again is of no use: whoever raised it has."""

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return self.message

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "message": self.message, "hint": self.hint, **self.details}


class UsageError(OctreeError, ValueError):
    kind = "usage"
    exit_code = 2


class AxisError(UsageError):
    """About the place on an axis: it helps to know which axes there are."""


class SourceError(OctreeError):
    kind = "source"
    exit_code = 3


class SourceNotFound(SourceError, FileNotFoundError):
    kind = "source-not-found"


class OutsideError(SourceError):
    kind = "outside"


class LimitError(SourceError):
    kind = "limit"


class DestinationError(OctreeError):
    kind = "destination"
    exit_code = 4


class WriteError(OctreeError, OSError):
    kind = "write"
    exit_code = 5


class GLError(OctreeError):
    kind = "gl"
    exit_code = 6


class Interrupted(OctreeError):
    kind = "interrupted"
    exit_code = 130


class OctreeWarning(UserWarning):
    """Something is not as good as it should be, and what there is is no error: a line that says what, where and why."""


class SourceWarning(OctreeWarning):
    """What of a source is lost, or taken by a rule, when it is read."""
