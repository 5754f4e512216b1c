"""Any SOURCE as tiles: what ``open_tile_source`` gives.

``Face.read_tile`` is the only place where pixels are read for drawing; it runs in workers only, which is counted, not
assumed.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from octree.pyramid.downsample import METHODS, Method
from octree.pyramid.errors import SourceWarning, UsageError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import PyramidSpec
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions
from octree.render.tiles.cancelling import CancellableLevels, Close, FreshLevels, Levels
from octree.render.tiles.face import BRICK, Face, Voxels, fitting_tile
from octree.render.tiles.made_bricks import MadeBricks
from octree.render.tiles.made_levels import MadeLevels
from octree.render.tiles.open_levels import Opened, open_levels
from octree.render.tiles.slab import Slab, SlabLevels
from octree.render.tiles.texels import NO_BASE, Base
from octree.render.view.state import PLANE, VOLUME, Displayed, Section


class OpenTileSource(Face):
    """One source, opened: its plain face, rows y and columns x, and the owner of the others. Main thread only, but for
    what ``Face`` says of reading.

    ``path``   what to call it.  ``slab``   where on z an image without z lies.
    ``faces``  those that have been asked for, this one among them.
    """

    def __init__(
        self,
        opened: Opened,
        *,
        tile: int | None,
        labels: bool,
        single_level: bool,
        untiled: bool,
        recipe: tuple[Any, ...] | None,
        reopen: Callable[[], Opened],
        slab: Slab | None = None,
    ) -> None:
        def again() -> tuple[Levels, Close]:
            anew = reopen()
            return anew.levels, anew.close

        self._fresh = FreshLevels(opened.levels, opened.close, again)
        levels: Levels = CancellableLevels(self._fresh)
        spec = levels.spec
        stored, edges = len(spec.levels), (tile, tile) if tile else fitting_tile(spec)
        self._made: MadeLevels | None = None
        volume = levels
        if not single_level:
            method = _method(spec, labels=labels)
            if set(VOLUME) <= set(spec.free_axes):
                volume = MadeBricks(levels, min(BRICK, *edges), method)
            levels = self._made = MadeLevels(levels, edges, method)
        way = f"{opened.identity}|{edges}|{labels}|{single_level}|{untiled}"
        token = hashlib.sha256(way.encode("utf-8", "surrogatepass")).hexdigest()
        super().__init__(Voxels(opened, levels, volume, stored, token, tile, labels, untiled, recipe))
        self._opened, self.path, self.slab = opened, opened.path, slab
        self._faces: dict[tuple[Any, ...], Face] = {(PLANE, "", None, None): self}

    @property
    def chunked(self) -> bool:
        """Reading a voxel is decoding the chunk of ``spec`` that holds it."""
        return self._opened.chunked

    @property
    def faces(self) -> tuple[Face, ...]:
        return tuple(self._faces.values())

    def face(self, section: Section, bases: Mapping[int | None, Base] | None = None) -> Face:
        """The face that shows a section, its texels relative to ``bases`` (see ``rebase``; None: to those of the source).
        Raises UsageError for a projection that its values do not have."""
        own = None if bases is None else _real(bases)
        if own == self._voxels.bases:
            own = None
        way = (section.displayed, section.projected, section.method)
        key = (*way, own if own is None else frozenset(own.items()))
        if key not in self._faces:
            self._faces[key] = Face(self._voxels, *way, bases=own)
        return self._faces[key]

    def drop(self, face: Face) -> None:
        """Nobody shows this face any more. The plain one stays."""
        self._faces = {key: own for key, own in self._faces.items() if own is not face or own is self}

    def rebase(self, bases: Mapping[int | None, Base]) -> None:
        """Make texels relative to these, by channel; None: all others. Before anything is loaded: it is another tile
        source then."""
        found = _real(bases)
        if found == self._voxels.bases:
            return
        self._voxels.bases = found
        for face in self.faces:
            face._token = face._name()

    def invalidate(self) -> None:
        """The data have changed: tiles read before are no longer this source's, and what its reader keeps is dropped. The
        next read opens it anew."""
        self._fresh.forget()
        self._voxels.version += 1
        if self._made is not None:
            self._made.forget()

    def describe(self, face: Face | None = None) -> dict[str, Any]:
        """The source as the report names it, with the levels and tiles of a face; None: the plain one."""
        face = self if face is None else face
        tile = face.lattice.levels[0].tile
        return {
            "path": self.path,
            "digest": self._opened.digest(),
            "dtype": self.spec.dtype.name,
            "axes": "".join(self.spec.axis_names),
            "tile": tile[0] if len(set(tile)) == 1 else list(tile),
            "levels": [
                {
                    "shape": list(level.shape),
                    "scale": list(level.scale),
                    "translation": list(level.translation),
                }
                for level in face.spec.levels
            ],
            "warnings": list(self._opened.warnings),
        }

    def close(self) -> None:
        """Close the files; nothing can be read any more. Closing twice is harmless."""
        self._fresh.close()

    def __enter__(self) -> OpenTileSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_tile_source(
    source: Any,
    *,
    tile: int | None = None,
    labels: bool = False,
    single_level: bool = False,
    untiled: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    allow_outside: bool = False,
    remote: RemoteOptions = DEFAULT_REMOTE,
    slab: Slab | None = None,
) -> OpenTileSource:
    """Open ``source``: the path of a pyramid, or anything ``octree.pyramid.sources.source.open_source`` takes.

    ``tile``          tile edge in pixels; None: what suits the chunks of the source.
    ``labels``        values are ids.
    ``single_level``  do not make levels coarser than the stored ones.
    ``untiled``       each level as one image, or the fewest tiles that textures allow.
    ``limits``        what one chunk, tile or flat image may take.

    ``allow_outside`` what the source names, and links, may lie outside of its folder.
    ``remote``        how a URL is reached.
    ``slab``          an image without z is this slab of a volume.

    Raises SourceError, SourceNotFound, OutsideError, UsageError (labels of several samples).
    """

    def open_it() -> Opened:
        opened = open_levels(source, labels=labels, limits=limits, allow_outside=allow_outside, remote=remote)
        if slab is None:
            return opened
        return replace(opened, levels=SlabLevels(opened.levels, slab), identity=f"{opened.identity}|{slab}")

    opened = open_it()
    spec = opened.levels.spec
    try:
        if labels and spec.rgb:
            raise UsageError(
                f"{opened.path} is a colour image, not labels", hint="leave out --labels, or give one channel"
            )
        options = {
            "tile": tile,
            "labels": labels,
            "single_level": single_level,
            "untiled": untiled,
            "limits": limits,
            "allow_outside": allow_outside,
            "remote": remote,
            "slab": slab,
        }
        recipe = (_reopen, str(source), options) if isinstance(source, str | os.PathLike) else None
        return OpenTileSource(
            opened,
            tile=tile,
            labels=labels,
            single_level=single_level,
            untiled=untiled,
            recipe=recipe,
            reopen=open_it,
            slab=slab,
        )
    except BaseException:
        opened.close()
        raise


def _real(bases: Mapping[int | None, Base]) -> dict[int | None, Base]:
    return {channel: base for channel, base in bases.items() if base != NO_BASE}


def _reopen(
    path: str, options: Mapping[str, Any], way: tuple[Displayed, str, str | None]
) -> OpenTileSource | Face:
    """In a worker process: the same face of the same source again."""
    own = dict(options)
    bases = own.pop("bases", {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SourceWarning)  # who opened it first has heard them
        source = open_tile_source(path, **own)
    source.rebase(bases)
    return source if way == (PLANE, "", None) else Face(source._voxels, *way)


def _method(spec: PyramidSpec, *, labels: bool) -> Method:
    """How levels beyond the stored ones are made: as the stored ones were, else as a build would."""
    for method in METHODS:
        if method == spec.method and not labels:
            return method
    return "mode" if labels or spec.labels or spec.dtype.kind == "b" else "mean"
