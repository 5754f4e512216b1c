"""Every image that lies at a path: all of a folder of several, every multiscale of a group, and its labels."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from octree.pyramid.errors import OutsideError, SourceError
from octree.pyramid.store import ngff
from octree.pyramid.store.named import Where, place_of
from octree.pyramid.store.place import Place
from octree.pyramid.store.remote.faults import RemoteError


@dataclass(frozen=True, slots=True)
class Listed:
    """One multiscale image: what to call it beside others ("" for the first), its group, the group's attributes,
    the image's number among the group's multiscales, and "0.5" or "0.4" for Zarr v3 or v2."""

    name: str
    group: Place
    attributes: dict[str, Any]
    number: int
    version: str

    @property
    def own_attributes(self) -> dict[str, Any]:
        """The attributes as if this were the group's only multiscale."""
        return {**self.attributes, ngff.IMAGES_KEY: [self.entry]} if self.entry else self.attributes

    @property
    def entry(self) -> dict[str, Any]:
        """What the group says of this multiscale; {} when that makes no sense."""
        entries = self.attributes.get(ngff.IMAGES_KEY)
        found = entries[self.number] if isinstance(entries, list) and entries else None
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Absent:
    """An image that is listed and is not there: its name, and what is wrong."""

    name: str
    what: str


def images_of(where: Where) -> list[Listed | Absent]:
    """Every image at ``where``, at least one. Raises SourceError when there is none at all; OutsideError for a name
    or link that leads out."""
    place = place_of(where)
    group, attributes, version = ngff.find_image(place)
    if group == place:
        return list(_images_of_group("", place, attributes, version))
    found: list[Listed | Absent] = []
    for name in _series(place):
        inside = place.child(name, f"{place}: the image {name!r}")
        if _is_below(name) and (inner := _attributes(inside)) and ngff.IMAGES_KEY in inner[0]:
            found += _images_of_group(posixpath.normpath(name), inside, *inner)
        else:
            found.append(Absent(name, "listed as an image, but there is none"))
    return found


def _attributes(place: Place) -> tuple[dict[str, Any], str] | None:
    try:
        return ngff.group_attributes(place)
    except OutsideError:
        raise
    except SourceError as error:
        # labels that nobody may look for are none; a store that does not answer is no reason to leave them out
        if isinstance(error, RemoteError) and error.fault != "forbidden":
            raise
        return None


def _is_below(name: str) -> bool:
    """Does the name of a group lead down into its folder?"""
    return not name.startswith("/") and ".." not in name.split("/")


def _series(place: Place) -> list[str]:
    """Names of groups of a folder of several images: those that it lists, else those called by numbers."""
    inner = _attributes(place.child("OME"))
    listed = inner[0].get("series") if inner else None
    if isinstance(listed, list) and listed:
        return [str(name) for name in listed]
    names = [name.rstrip("/") for name in place.names() or ()]
    return sorted((name for name in names if name.isdecimal()), key=int) or ["0"]


def _images_of_group(
    below: str, group: Place, attributes: dict[str, Any], version: str
) -> Iterator[Listed | Absent]:
    yield from _multiscales(below, group, attributes, version)
    labels = group.child("labels")
    inner = _attributes(labels)
    names: Any = inner[0].get("labels") if inner else None
    for label in map(str, names if isinstance(names, list) else ()):
        name = f"{below}/labels/{label}".removeprefix("/")
        inside = labels.child(label, f"{group}: the label image {label!r}")
        found = _attributes(inside) if _is_below(label) else None
        if found is None or ngff.IMAGES_KEY not in found[0]:
            yield Absent(name, "listed as a label image, but there is none")
        else:
            yield from _multiscales(name, inside, *found)


def _multiscales(name: str, group: Place, attributes: dict[str, Any], version: str) -> Iterator[Listed]:
    entries = attributes[ngff.IMAGES_KEY]
    for number in range(max(1, len(entries) if isinstance(entries, list) else 1)):
        own = f"{name} image {number}".strip() if number else name
        yield Listed(own, group, attributes, number, version)
