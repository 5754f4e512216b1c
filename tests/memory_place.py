"""A second kind of Place: names in TensorStore's key-value store in memory."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import tensorstore as ts

from octree.pyramid.errors import OutsideError
from octree.pyramid.store.place import End, Place, Stamp


@dataclass(frozen=True, slots=True)
class MemoryPlace(Place):
    """``key`` in the store, and the key above which no name leads. ``can_list``: some stores cannot."""

    store: Any
    key: str
    top: str
    can_list: bool = True

    def __str__(self) -> str:
        return f"memory://{self.key}"

    @property
    def name(self) -> str:
        return posixpath.basename(self.key)

    def child(self, name: str, what: str = "") -> MemoryPlace:
        key = posixpath.normpath(posixpath.join("/", self.key, name))
        up = posixpath.normpath(posixpath.join(self.key or ".", name)).startswith("..")
        top = posixpath.join("/", self.top)
        if up or name.startswith("/") or "://" in name or posixpath.commonpath([key, top]) != top:
            raise OutsideError(f"{what or name} leads out of {self}")
        return MemoryPlace(self.store, key[1:], self.top, self.can_list)

    def read(self, start: int = 0, stop: int | None = None) -> bytes | None:
        found = self.store.read(self.key).result()
        return bytes(found.value)[start:stop] if found.state == "value" else None

    def stamp(self) -> Stamp | None:
        found = self.store.read(self.key).result()
        return Stamp(len(found.value), found.stamp.generation.hex()) if found.state == "value" else None

    def names(self) -> list[str] | None:
        if not self.can_list:
            return None
        head = f"{self.key}/" if self.key else ""
        below = [key.decode() for key in self.store.list().result() if key.decode().startswith(head)]
        parts = [key.removeprefix(head).partition("/") for key in below]
        return sorted({name + slash for name, slash, _ in parts}, key=lambda name: name.rstrip("/"))

    def kind(self) -> Literal["folder", "value", "nothing"]:
        if self.stamp() is not None:
            return "value"
        return "nothing" if self.names() == [] else "folder"

    def write(self, data: bytes) -> None:
        self.store.write(self.key, data).result()

    def ends(self, keys: Iterable[str]) -> list[End]:
        found = [self.child(key).read() for key in keys]
        return [End(len(data), data[-4:]) for data in found if data is not None]

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.store.write(self.child(key).key, None).result()

    @property
    def kvstore(self) -> Any:
        return self.store / f"{self.key}/" if self.key else self.store

    @property
    def identity(self) -> str:
        return f"{id(self.store)}:{self.key}"


def in_memory(key: str = "", store: Any = None, *, can_list: bool = True) -> MemoryPlace:
    """What a user would name: nothing leads out of ``key``. In a new store, unless one is given."""
    store = ts.KvStore.open({"driver": "memory"}).result() if store is None else store
    return MemoryPlace(store, key, key, can_list)
