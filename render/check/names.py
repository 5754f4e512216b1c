"""Names that files give us (suites, records, manifests), checked once, where they are parsed: what has passed here
names a file or folder in the place where it is used, and nothing beyond it, on every system."""

from __future__ import annotations

from octree.pyramid.foreign import INVISIBLE

MAX_NAME_BYTES = 150
HINT = 'names become file names: no / \\ : * ? " < > |, no control characters, no dot or space at either end'
_FORBIDDEN = frozenset('/\\:*?"<>|')
_PORTS = [f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"]
_DEVICES = frozenset(("con", "prn", "aux", "nul", "conin$", "conout$", *_PORTS))


def fault(name: object) -> str | None:
    """What keeps ``name`` from being a plain name, in words; None when it is one."""
    if not isinstance(name, str) or not name.strip():
        return "no name"
    if INVISIBLE.search(name):
        return f"{name[:60]!a} cannot be a name: it has characters that nobody sees"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"{name[:60]!r}…: the name is too long for a file name"
    if name != name.strip() or name.startswith(".") or name.endswith(".") or set(name) & _FORBIDDEN:
        return f"{name!r} cannot be a name"
    if name.split(".")[0].strip().casefold() in _DEVICES:
        return f"{name!r} cannot be a name: it is a device on Windows"
    return None
