"""Baselines on disk: one folder per renderer and case, and a manifest that says where each came from.

    baselines/
      manifest.json
      default/CASE/frame-0000.png …, record.json
      llvmpipe-x86_64/CASE/…                         a family of renderers
      llvmpipe-mesa22.3-llvm15-256bit-…/CASE/…       one renderer

A case is looked up by the renderer's fingerprint, then its family, then ``default``.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octree.pyramid.errors import SourceError, UsageError
from octree.pyramid.store.removal import Folder
from octree.render.check import names
from octree.render.check.folders import check_frames, read_file, remove_frames
from octree.render.check.record import (
    MAX_RECORD_BYTES,
    RECORD_FILE,
    CaseRecord,
    max_png_bytes,
    parse_record,
    read_record,
)
from octree.render.option_table import MAX_FRAME_PX
from octree.render.output.files import write_error
from octree.render.report.values import utc_now, version

SCHEMA = "octree-baselines/1"
MANIFEST_FILE = "manifest.json"
DEFAULT = "default"
MAX_MANIFEST_BYTES = 64 << 20
_MAX_FILE_BYTES = max_png_bytes((MAX_FRAME_PX, 1))
Scope = Literal["auto", "exact", "family", "default"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """An accepted record: ``key`` is the renderer folder it was found in, ``folder`` where its files lie."""

    key: str
    folder: Path
    record: CaseRecord


class BaselineStore:
    """The baselines under one folder. Owned by the thread that runs the suite; the files are the state."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, case: str, fingerprint: str, family: str) -> Baseline | None:
        """The baseline of a case for a renderer, None when there is none.

        Raises ``SourceError`` when one is there but is not what the manifest says."""
        entries = self.manifest()
        for key in dict.fromkeys((fingerprint, family, DEFAULT)):
            entry = entries.get(f"{key}/{case}")
            if entry is not None:
                return Baseline(key, self.root / key / case, self._checked(key, case, entry))
        return None

    def manifest(self) -> dict[str, Any]:
        """Entries of the manifest by ``renderer/case``; empty when there is no manifest. Raises
        ``SourceError`` when it cannot be read."""
        path = self.root / MANIFEST_FILE
        try:
            return parse_manifest(read_file(path, MAX_MANIFEST_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise SourceError(
                f"cannot read the manifest {path}: {error}",
                hint="restore it from version control; without it every case counts as new",
                path=str(path),
            ) from error

    def _checked(self, key: str, case: str, entry: dict[str, Any]) -> CaseRecord:
        folder = self.root / key / case
        for name, facts in entry["files"].items():
            path = folder / name
            try:
                digest = sha256_of(name, read_file(path, _MAX_FILE_BYTES))
            except OSError as error:
                raise SourceError(
                    f"baseline {path} cannot be read: {error.strerror or error}",
                    hint=f"restore it from version control, or accept {case!r} again",
                    path=str(path),
                ) from error
            if digest != facts["sha256"]:
                raise SourceError(
                    f"baseline {path} is not the file that was accepted",
                    hint="restore it from version control (is it stored with LFS and not fetched?), "
                    f"or accept {case!r} again",
                    path=str(path),
                )
        record = read_record(folder / RECORD_FILE)
        if record is None:
            raise SourceError(f"baseline {folder / RECORD_FILE} cannot be read", path=str(folder))
        unlisted = [frame.file for frame in record.frames if frame.file not in entry["files"]]
        if unlisted:
            raise SourceError(
                f"baseline {folder / unlisted[0]} is not in the manifest",
                hint=f"restore it from version control, or accept {case!r} again",
                path=str(folder / unlisted[0]),
            )
        return record

    def key_for(self, case: str, record: CaseRecord, scope: Scope = "auto") -> str:
        """Under which renderer to keep a new baseline.

        ``auto`` replaces the one that was in force if the same renderer made it; else the first baseline of
        a case becomes the default, and another renderer gets its own beside it."""
        if scope != "auto":
            return {"exact": record.fingerprint, "family": record.family, "default": DEFAULT}[scope]
        entries = self.manifest()
        for key in dict.fromkeys((record.fingerprint, record.family, DEFAULT)):
            entry = entries.get(f"{key}/{case}")
            if entry is not None:
                same = entry.get("fingerprint") == record.fingerprint
                return key if same else record.fingerprint
        return DEFAULT

    def accept(self, case: str, staged: Folder, *, reason: str = "", scope: Scope = "auto") -> str:
        """Copy the frames in the folder ``staged`` to be the baseline of ``case``; returns its key.

        What is copied is what the staged record says, byte for byte. The old files stay until the new ones are
        complete; the manifest is written last. Raises ``SourceError`` when a frame is not the one that was rendered
        (nothing has changed then), ``DestinationError`` or ``WriteError``."""
        text = _staged_bytes(staged, RECORD_FILE, MAX_RECORD_BYTES)
        try:
            record = parse_record(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"the record of the staged frames cannot be used: {error}") from error
        key = self.key_for(case, record, scope)
        entries = self.manifest()
        try:
            with Folder.of(self.root, create=True) as root:
                files = _put(root, key, case, staged, record, text, known=f"{key}/{case}" in entries)
                entries[f"{key}/{case}"] = manifest_entry(record, files, reason)
                document = {"schema": SCHEMA, "baselines": dict(sorted(entries.items()))}
                root.write(MANIFEST_FILE, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
        except OSError as error:
            raise write_error(self.root / key / case, error) from error
        return key

    def unused(self, cases: Iterable[str]) -> list[str]:
        """Entries and folders, as ``renderer/case``, that belong to none of the ``cases``; sorted."""
        known = set(cases)
        found = set(self.manifest())
        if self.root.is_dir():
            for key in self.root.iterdir():
                if key.is_dir() and not key.name.startswith("."):
                    found.update(f"{key.name}/{case.name}" for case in key.iterdir() if case.is_dir())
        return sorted(entry for entry in found if entry.partition("/")[2] not in known)


def _put(
    root: Folder, key: str, case: str, staged: Folder, record: CaseRecord, text: bytes, *, known: bool
) -> dict[str, Any]:
    """Copy what was staged to ``key/case`` in ``root``; what the manifest says of each file. Complete in a folder
    of its own before the old one goes."""
    new = f".{secrets.token_hex(8)}.new"
    files: dict[str, Any] = {}
    try:
        with root.folder(new, create=True) as aside:
            for frame in record.frames:
                data = _staged_bytes(staged, frame.file, max_png_bytes(frame.size_px))
                if hashlib.sha256(data).hexdigest() != frame.sha256:
                    raise SourceError(
                        f"the staged frame {staged.path / frame.file} is not the one that was rendered: "
                        "its bytes are not those that its record names",
                        hint="run the case again, and look at its frames before accepting them",
                        path=str(staged.path / frame.file),
                    )
                aside.write(frame.file, data)
                files[frame.file] = _file_facts(frame.file, data) | {"size_px": list(frame.size_px)}
            aside.write(RECORD_FILE, text)
            files[RECORD_FILE] = _file_facts(RECORD_FILE, text)
        with root.folder(key, create=True) as folder:
            _swap(root, new, folder, case, known=known)
    finally:
        with suppress(OSError):
            remove_frames(root, new, known=True)
    return files


def _swap(root: Folder, new: str, folder: Folder, case: str, *, known: bool) -> None:
    """Put the folder ``new`` of ``root`` in the place of the one called ``case``, which goes when it is there. Raises
    DestinationError when that is none of ours; ``known``: the manifest names it."""
    try:
        # not a link, nor anything else that only looks like a baseline
        check_frames(folder, case, known=known)
    except FileNotFoundError:
        root.move(new, folder, case)
        return
    old = f".{secrets.token_hex(8)}.old"
    folder.move(case, root, old)
    try:
        root.move(new, folder, case)
    except OSError:
        root.move(old, folder, case)
        raise
    with suppress(OSError):
        remove_frames(root, old, known=True)


def _staged_bytes(staged: Folder, name: str, limit_bytes: int) -> bytes:
    try:
        return staged.read_whole(name, limit_bytes)
    except OSError as error:
        raise SourceError(
            f"the staged frames cannot be taken: {staged.path / name}: {error.strerror or error}",
            hint="run the case again",
            path=str(staged.path / name),
        ) from error


def manifest_entry(record: CaseRecord, files: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """What the manifest says of one baseline."""
    return {
        "fingerprint": record.fingerprint,
        "family": record.family,
        "octree_version": version(),
        "accepted_utc": utc_now(),
        "reason": reason,
        "files": dict(files),
    }


def parse_manifest(data: bytes) -> dict[str, Any]:
    """Entries by ``renderer/case`` from the bytes of a manifest; every name in it is a plain one. Raises ValueError
    (RecursionError for JSON too deep to be one)."""
    document = json.loads(data)
    entries = document.get("baselines") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise ValueError("it is no object with schema and baselines")
    if document.get("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA!r}")
    for place, entry in entries.items():
        _plain(place.partition("/")[0])
        _plain(place.partition("/")[2])
        files = entry.get("files") if isinstance(entry, dict) else None
        if not isinstance(files, dict) or RECORD_FILE not in files:
            raise ValueError(f"{place!r} lists no files")
        for name, facts in files.items():
            _plain(name)
            if not isinstance(facts, dict) or not isinstance(facts.get("sha256"), str):
                raise ValueError(f"{place!r}: {name!r} has no sha256")
    return entries


def _plain(name: str) -> None:
    if (wrong := names.fault(name)) is not None:
        raise ValueError(wrong)


def _file_facts(name: str, data: bytes) -> dict[str, Any]:
    return {"sha256": sha256_of(name, data), "bytes": len(data)}


def sha256_of(name: str, data: bytes) -> str:
    """The SHA-256 of a file; line ends of JSON count as version control stored them, not as it checks out."""
    return hashlib.sha256(data.replace(b"\r\n", b"\n") if name.endswith(".json") else data).hexdigest()


def scope_of(text: str) -> Scope:
    """``auto``, ``exact``, ``family`` or ``default``. Raises ``UsageError``."""
    match text:
        case "auto" | "exact" | "family" | "default":
            return text
    raise UsageError(f"{text!r} is not one of auto, exact, family, default")
