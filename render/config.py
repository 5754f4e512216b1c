"""The settings file: napari's octree format plus a section ``render``, as frozen values.

Found by ``path``, then OCTREE_CONFIG, then NAPARI_OCTREE, then the defaults. Nothing here is shared or changed
after loading, so two runs in one process never meet. Unknown keys and wrong types are errors that name the key,
the value and what is allowed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octree.pyramid.errors import UsageError
from octree.pyramid.limits import DECODED, MAX_DECODED_BYTES, MAX_PIXELS, PIXELS, Limits
from octree.pyramid.options import ANY, BYTES, FLAG, MS, PATH, Kind, number, shown, whole
from octree.pyramid.reach import read_small

MAX_WORKERS = 256
"""Workers of one pool; also the most concurrent loads a busy server takes kindly."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """One pool of workers. ``auto_sync_ms``: how long a frame may wait for loads that have been faster than
    this; ``delay_queue_ms``: how long a tile must have been wanted, counted from the camera's last motion."""

    num_workers: int = 10
    use_processes: bool = False
    auto_sync_ms: float = 30.0
    delay_queue_ms: float = 100.0

    def to_json(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "use_processes": self.use_processes,
            "auto_sync_ms": _plain(self.auto_sync_ms),
            "delay_queue_ms": _plain(self.delay_queue_ms),
        }


@dataclass(frozen=True, slots=True)
class LoaderSettings:
    """What the tile loader needs. ``pools`` is sorted: (levels above the ideal one, its pool).

    ``log_path``        a line per load is appended here; ``plan_log_path`` a line per plan of a view.
    ``retries``         tries per tile, the first one included.
    ``retry_delay_ms``  wait before the second try; doubles with each further one, up to 10 s, less up to half
                        of it at random (seeded).
    ``read_timeout_ms`` a try that takes longer is given up; 0 for never.
    ``max_workers``     of a pool of threads, while planes are loaded ahead and more than its ``num_workers`` are needed.
    """

    log_path: str | None = None
    plan_log_path: str | None = None
    force_synchronous: bool = False
    pools: tuple[tuple[int, PoolSettings], ...] = (
        (0, PoolSettings()),
        (2, PoolSettings(delay_queue_ms=0.0)),
    )
    retries: int = 3
    retry_delay_ms: float = 250.0
    read_timeout_ms: float = 30_000.0
    max_workers: int = 32

    def pool_key(self, levels_above_ideal: int) -> int:
        """Which pool serves a level: the largest key at most ``levels_above_ideal``, else the smallest."""
        keys = [key for key, _ in self.pools]
        return max((key for key in keys if key <= levels_above_ideal), default=keys[0])

    def most_workers(self, pool_key: int) -> int:
        """As many may load for a pool, while planes are loaded ahead."""
        own = dict(self.pools)[pool_key]
        return own.num_workers if own.use_processes else max(own.num_workers, self.max_workers)


@dataclass(frozen=True, slots=True)
class OctreeSettings:
    """``tile_size`` None: the chunk edge of the pyramid, or 256. ``enabled`` false: each level is one plain
    image (or the smallest number of large tiles that textures allow), loaded asynchronously."""

    enabled: bool = True
    tile_size: int | None = None
    log_path: str | None = None


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """What napari's file has no words for. ``upload_ms`` and ``upload_bytes``: budget of one frame, whichever
    is spent first; ``hysteresis``: how far past the switch point a level is kept, as a fraction;
    ``prefetch_margin``: fraction of the view loaded around it; ``lookahead_ms``: how far ahead of the motion.
    ``volume_atlas_bytes``: instead of ``atlas_bytes`` where volumes are drawn, whose bricks must all have room at once."""

    cache_bytes: int = 512 * 2**20
    atlas_bytes: int = 256 * 2**20
    volume_atlas_bytes: int = 2**30
    upload_ms: float = 4.0
    upload_bytes: int = 4 * 2**20
    hysteresis: float = 0.1
    prefetch_margin: float = 0.125
    lookahead_ms: float = 100.0
    max_pixels: int = MAX_PIXELS
    max_decoded_bytes: int = MAX_DECODED_BYTES

    @property
    def limits(self) -> Limits:
        """What one chunk, tile or flat image of a source may take."""
        return Limits(self.max_pixels, self.max_decoded_bytes)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything in force. ``origin`` says where it came from: a path, or "defaults"."""

    loader: LoaderSettings = field(default_factory=LoaderSettings)
    octree: OctreeSettings = field(default_factory=OctreeSettings)
    render: RenderSettings = field(default_factory=RenderSettings)
    defaults: PoolSettings = field(default_factory=PoolSettings)
    origin: str = "defaults"

    def to_json(self) -> dict[str, Any]:
        """In the form of the settings file: loading the result gives equal settings."""
        return {
            "loader_defaults": {
                "log_path": self.loader.log_path,
                "force_synchronous": self.loader.force_synchronous,
                **self.defaults.to_json(),
            },
            "octree": {
                "enabled": self.octree.enabled,
                "tile_size": self.octree.tile_size,
                "log_path": self.octree.log_path,
                "loaders": {str(key): pool.to_json() for key, pool in self.loader.pools},
            },
            "render": {
                name: _plain(getattr(self.loader if name in _LOADING else self.render, name))
                for name in _RENDER
            },
        }


def default_settings() -> Settings:
    return Settings()


def load_settings(
    path: str | Path | Mapping[str, Any] | None = None, env: Mapping[str, str] = os.environ
) -> Settings:
    """The settings in force: ``path`` (or its content as a mapping), else OCTREE_CONFIG, else NAPARI_OCTREE
    (a path, or a switch such as 1), else the defaults. Raises UsageError."""
    if isinstance(path, Mapping):
        return parse_settings(path, "settings")
    if path is None:
        path = env.get("OCTREE_CONFIG") or None
    if path is None:
        path = env.get("NAPARI_OCTREE") or None
        if path in ("0", "1"):  # napari's way to say off and on: no file
            path = None
    if path is None:
        return default_settings()
    return parse_settings(_read_json(Path(path)), str(path))


def _read_json(path: Path) -> Any:
    try:
        text = read_small(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"settings file {str(path)!r} cannot be read: {reason}",
            hint="octree config --defaults prints one to start from",
            path=str(path),
        ) from error
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"settings file {str(path)!r} is not JSON: {error}",
            hint="octree config --defaults prints one to start from",
            path=str(path),
        ) from error


class _Duplicate(ValueError):
    pass


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Duplicate(f"key {next(n for n in names if names.count(n) > 1)!r} appears twice")
    return made


# from plain JSON values to settings


def parse_settings(document: Any, origin: str = "settings") -> Settings:
    """Settings from the decoded content of a settings file; ``origin`` names it in errors (UsageError)."""
    read = _Section(origin, "", document)
    sections = read.known({"loader_defaults": ANY, "octree": ANY, "render": ANY})
    defaults = _Section(origin, "loader_defaults", sections.get("loader_defaults", {})).known(_LOADER)
    octree = _Section(origin, "octree", sections.get("octree", {})).known(_OCTREE)
    render = _Section(origin, "render", sections.get("render", {})).known(_RENDER)
    if "atlas_bytes" in render:  # a file that says how large the atlas is says it of volumes, too
        render.setdefault("volume_atlas_bytes", render["atlas_bytes"])
    loading = {name: render.pop(name) for name in _LOADING if name in render}
    pool = PoolSettings(**{name: defaults[name] for name in _POOL if name in defaults})
    loader = LoaderSettings(
        log_path=defaults.get("log_path"),
        plan_log_path=octree.get("log_path"),
        force_synchronous=defaults.get("force_synchronous", False),
        pools=_pools(origin, octree.pop("loaders", None), pool),
        **loading,
    )
    return Settings(loader, OctreeSettings(**octree), RenderSettings(**render), pool, origin)


def _pools(origin: str, loaders: Any, defaults: PoolSettings) -> tuple[tuple[int, PoolSettings], ...]:
    """Each pool's settings over ``defaults``. Without ``loaders``: the default pools, of which the coarse one
    keeps its delay of 0."""
    if loaders is None:
        loaders = {0: {}, 2: {"delay_queue_ms": 0}}
    where = "octree.loaders"
    if not isinstance(loaders, Mapping):
        raise _wrong(origin, where, loaders, "an object: levels above the ideal one → pool settings")
    pools: dict[int, PoolSettings] = {}
    for key, value in loaders.items():
        levels = _levels_above(origin, key)
        if levels in pools:
            raise UsageError(f"{origin}: {where} names level {levels} twice")
        given = _Section(origin, f"{where}.{key}", value).known(_POOL)
        pools[levels] = PoolSettings(
            **{name: given.get(name, getattr(defaults, name)) for name in _POOL},
        )
    return tuple(sorted(pools.items())) or ((0, defaults),)


def _levels_above(origin: str, key: object) -> int:
    text = str(key)
    if isinstance(key, bool) or not text.isascii() or not text.isdecimal() or len(text) > 3:
        raise _wrong(
            origin, "octree.loaders", key, "keys that are whole numbers from 0 (levels above the ideal)"
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class _Section:
    """One JSON object of the file, with the words to say where something is wrong."""

    origin: str
    name: str
    value: Any

    def known(self, kinds: Mapping[str, Kind]) -> dict[str, Any]:
        """Every value parsed. Raises UsageError for an unknown key or a wrong value."""
        if not isinstance(self.value, Mapping):
            raise _wrong(self.origin, self.name or "the file", self.value, "an object {…}")
        result: dict[str, Any] = {}
        for key, value in self.value.items():
            where = f"{self.name}.{key}" if self.name else str(key)
            if key not in kinds:
                raise UsageError(
                    f"{self.origin}: unknown key {where!r}",
                    hint=f"allowed in {self.name or 'the file'}: {', '.join(kinds)}",
                    key=where,
                )
            kind = kinds[key]
            try:
                if isinstance(value, str) and kind.symbol in ("INTEGER", "NUMBER"):
                    raise ValueError(value)  # JSON has numbers of its own; a text is a mistake
                result[key] = kind.parse(value)
            except (ValueError, TypeError, OverflowError):  # a UsageError is a ValueError
                raise _wrong(self.origin, where, value, kind.words) from None
        return result


def _wrong(origin: str, where: str, value: object, allowed: str) -> UsageError:
    return UsageError(
        f"{origin}: {where} is {shown(value)}",
        hint=f"allowed: {allowed}",
        key=where,
    )


def _path(value: Any) -> str | None:
    return None if value is None else str(PATH.parse(value))


def _tile_size(value: Any) -> int | None:
    return None if value is None else int(_SIZE.parse(value))


_PATH = Kind(f"{PATH.words}, or null", _path)
_SIZE = whole(16, 16384)
_POOL = {
    "num_workers": whole(1, MAX_WORKERS),
    "use_processes": FLAG,
    "auto_sync_ms": MS,
    "delay_queue_ms": MS,
}
_LOADER = {"log_path": _PATH, "force_synchronous": FLAG, **_POOL}
_OCTREE = {
    "enabled": FLAG,
    "tile_size": Kind(_SIZE.words, _tile_size, _SIZE.symbol),
    "log_path": _PATH,
    "loaders": ANY,
}
_LOADING = {
    "retries": whole(1, 100),
    "retry_delay_ms": MS,
    "read_timeout_ms": MS,
    "max_workers": whole(1, MAX_WORKERS),
}
_RENDER = {
    "cache_bytes": BYTES,
    "atlas_bytes": BYTES,
    "volume_atlas_bytes": BYTES,
    "upload_ms": MS,
    "upload_bytes": BYTES,
    "hysteresis": number(0, 0.4),
    "prefetch_margin": number(0, 4),
    "lookahead_ms": MS,
    **_LOADING,
    "max_pixels": PIXELS,
    "max_decoded_bytes": DECODED,
}


def _plain(value: Any) -> Any:
    """Whole milliseconds are written without a fraction, as in napari's files."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
