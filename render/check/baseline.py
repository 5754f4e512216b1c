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
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octree.pyramid.errors import SourceError, UsageError
from octree.render.check.record import RECORD_FILE, CaseRecord, read_record
from octree.render.output.files import atomic_file, write_error
from octree.render.report.values import utc_now, version

SCHEMA = "octree-baselines/1"
MANIFEST_FILE = "manifest.json"
DEFAULT = "default"
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
            document = json.loads(path.read_bytes())
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']!r} is not {SCHEMA!r}")
            entries: dict[str, Any] = dict(document["baselines"])
            return entries
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(
                f"cannot read the manifest {path}: {error}",
                hint="restore it from version control, or accept the cases again",
                path=str(path),
            ) from error

    def _checked(self, key: str, case: str, entry: dict[str, Any]) -> CaseRecord:
        folder = self.root / key / case
        for name, facts in entry["files"].items():
            path = folder / name
            try:
                digest = sha256_of(path)
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
        record = read_record(folder)
        if record is None:
            raise SourceError(f"baseline {folder / RECORD_FILE} cannot be read", path=str(folder))
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

    def accept(
        self, case: str, staged: Path, record: CaseRecord, *, reason: str = "", scope: Scope = "auto"
    ) -> str:
        """Copy the folder ``staged`` to be the baseline of ``case``; returns its key.

        The old files stay until the new ones are complete; the manifest is written last. Raises
        ``DestinationError`` or ``WriteError``."""
        key = self.key_for(case, record, scope)
        target = self.root / key / case
        aside = target.with_name(f".{case}.{os.getpid()}.new")
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            for name in [*(frame.file for frame in record.frames), RECORD_FILE]:
                shutil.copyfile(staged / name, aside / name)
            if target.exists():
                shutil.rmtree(target)
            aside.rename(target)
        except OSError as error:
            raise write_error(target, error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self._write(self.manifest() | {f"{key}/{case}": manifest_entry(target, record, reason)})
        return key

    def _write(self, entries: dict[str, Any]) -> None:
        document = {"schema": SCHEMA, "baselines": dict(sorted(entries.items()))}
        with atomic_file(self.root / MANIFEST_FILE) as partial:
            partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def unused(self, cases: Iterable[str]) -> list[str]:
        """Entries and folders, as ``renderer/case``, that belong to none of the ``cases``; sorted."""
        names = set(cases)
        found = set(self.manifest())
        if self.root.is_dir():
            for key in self.root.iterdir():
                if key.is_dir() and not key.name.startswith("."):
                    found.update(f"{key.name}/{case.name}" for case in key.iterdir() if case.is_dir())
        return sorted(entry for entry in found if entry.partition("/")[2] not in names)


def manifest_entry(folder: Path, record: CaseRecord, reason: str) -> dict[str, Any]:
    """What the manifest says of one baseline."""
    files = {}
    for frame in record.frames:
        path = folder / frame.file
        files[frame.file] = {
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
            "size_px": list(frame.size_px),
        }
    path = folder / RECORD_FILE
    files[RECORD_FILE] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    return {
        "fingerprint": record.fingerprint,
        "family": record.family,
        "octree_version": version(),
        "accepted_utc": utc_now(),
        "reason": reason,
        "files": files,
    }


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file; line ends of JSON count as version control stored them, not as it checks out."""
    data = path.read_bytes()
    return hashlib.sha256(data.replace(b"\r\n", b"\n") if path.suffix == ".json" else data).hexdigest()


def scope_of(text: str) -> Scope:
    """``auto``, ``exact``, ``family`` or ``default``. Raises ``UsageError``."""
    match text:
        case "auto" | "exact" | "family" | "default":
            return text
    raise UsageError(f"{text!r} is not one of auto, exact, family, default")
