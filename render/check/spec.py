"""The suite file: TOML in, frozen cases out. Strict: what is not understood is named, with what is allowed."""

from __future__ import annotations

import posixpath
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.pyramid.store.remote.url import local_path, parse_url
from octree.render.check import names
from octree.render.check.compare import Tolerance
from octree.render.check.folders import read_file
from octree.render.config import Settings, load_settings

ASPECTS = ("tiles", "coverage", "pixels")
CASE_KEYS = (
    *("name", "source", "camera", "size", "options", "frames", "masks", "tolerance"),
    *("compare", "repeat"),
)
TOLERANCE_KEYS = ("max_delta", "budget", "cap", "cluster", "drift")
_MERGED = ("options", "tolerance")
MAX_FRAMES = 10_000_000
"""Frames of a path: more than a day at 100 a second."""
MAX_SUITE_BYTES = 16 << 20

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Named:
    """How a suite names the files of a case: the same wherever the suite lies."""

    sources: tuple[str, ...]
    cameras: tuple[str, ...]
    config: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One case. ``sources`` are absolute where they are files. ``frames`` None: all. ``masks`` are rectangles
    (x0, y0, x1, y1) in frame pixels. ``repeat``: how often it is rendered to see whether it is stable. ``named``
    None: it is not from a suite. ``settings`` are those of its option ``config``, None where there is none."""

    name: str
    sources: tuple[Any, ...]
    cameras: tuple[str, ...] = ("fit",)
    size_px: tuple[int, int] = (1024, 768)
    options: Mapping[str, Any] = field(default_factory=dict)
    frames: tuple[int, ...] | None = None
    masks: tuple[Rectangle, ...] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    compare: tuple[str, ...] = ASPECTS
    repeat: int = 2
    named: Named | None = field(default=None, compare=False)
    settings: Settings | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite file: its path and its cases, in order."""

    path: Path
    cases: tuple[Case, ...]

    @property
    def default_baselines(self) -> Path:
        return self.path.parent / "baselines"


def load_suite(path: Path, *, allow_outside: bool = False) -> Suite:
    """Read and check a suite. Raises ``UsageError`` that says where in the file something is wrong.

    ``allow_outside``: files that its cases write may lie outside its folder."""
    try:
        document = tomllib.loads(read_file(path, MAX_SUITE_BYTES).decode("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"no suite file {path}", hint="give a TOML file of cases", path=str(path)) from None
    except OSError as error:
        raise UsageError(
            f"cannot read the suite {path}: {error.strerror or error}", path=str(path)
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the suite {path} is not TOML: {error}", path=str(path)) from error
    try:
        folder = path.absolute().parent
        return Suite(path.absolute(), parse_suite(document, folder, allow_outside=allow_outside))
    except UsageError as error:
        raise UsageError(f"suite {path}: {error.message}", hint=error.hint, path=str(path)) from error


def parse_suite(
    document: Mapping[str, Any], folder: Path, *, allow_outside: bool = False
) -> tuple[Case, ...]:
    """The cases of a parsed suite whose relative paths start at ``folder``."""
    _only("the suite", document, ("defaults", "case"))
    defaults = _table("defaults", document.get("defaults", {}))
    _only("[defaults]", defaults, tuple(key for key in CASE_KEYS if key != "name"))
    items = document.get("case", [])
    if not isinstance(items, list) or not items:
        raise UsageError("no cases", hint="a case is a table that starts with [[case]]")
    cases = tuple(
        _case(number, item, defaults, folder, allow_outside) for number, item in enumerate(items, start=1)
    )
    seen: set[str] = set()
    for case in cases:
        if case.name.casefold() in seen:
            raise UsageError(
                f"two cases are called {case.name!r}", hint="names are file names: capitals do not count"
            )
        seen.add(case.name.casefold())
    return cases


def _case(number: int, item: Any, defaults: Mapping[str, Any], folder: Path, allow_outside: bool) -> Case:
    item = _table(f"case {number}", item)
    name = item.get("name")
    where = f"case {name!r}" if isinstance(name, str) else f"case {number}"
    _only(where, item, CASE_KEYS)
    values = {**defaults, **item}
    for key in _MERGED:
        merged = [_table(f"{where}: {key}", table.get(key, {})) for table in (defaults, item)]
        values[key] = merged[0] | merged[1]
    if "source" not in values:
        raise UsageError(f"{where}: no source")
    sources = _texts(where, "source", values["source"])
    cameras = _texts(where, "camera", values.get("camera", "fit"))
    config = _config(where, values["options"])
    case = Case(
        name=check_name(name, where),
        sources=tuple(_located(text, folder) for text in sources),
        cameras=tuple(_located_camera(text, folder) for text in cameras),
        size_px=_size(where, values.get("size", "1024x768")),
        options=parse_options(where, values["options"], folder),
        frames=_frames(where, values.get("frames")),
        masks=parse_masks(where, values.get("masks", [])),
        tolerance=parse_tolerance(where, values["tolerance"]),
        compare=_aspects(where, values.get("compare", list(ASPECTS))),
        repeat=_repeat(where, values.get("repeat", 2)),
        named=Named(
            tuple(_as_named(text) for text in sources),
            tuple(_as_named(text.strip()) if _is_camera_file(text) else text for text in cameras),
            None if config is None else _as_named(config),
        ),
        settings=None if config is None else _settings(where, config, folder, allow_outside),
    )
    check_values(case)
    return case


def _config(where: str, options: Mapping[str, Any]) -> str | None:
    config = options.get("config")
    if config is not None and (not isinstance(config, str) or not config.strip() or "\0" in config):
        raise UsageError(f"{where}: config must be the path of a settings file, not {config!r}")
    return config


def _settings(where: str, config: str, folder: Path, allow_outside: bool) -> Settings:
    """The settings of a case. What they write to is looked for from the suite's folder, and lies in it: a suite
    comes with somebody's branch, and running it must not write where its author likes."""
    try:
        settings = load_settings(folder / config)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from error
    loader, octree = settings.loader, settings.octree
    logs = {
        text: _written(f"{where}: log_path in {config}", text, folder, allow_outside)
        for text in (loader.log_path, loader.plan_log_path)
        if text is not None
    }
    return replace(
        settings,
        loader=replace(
            loader,
            log_path=logs.get(loader.log_path or ""),
            plan_log_path=logs.get(loader.plan_log_path or ""),
        ),
        octree=replace(octree, log_path=logs.get(octree.log_path or "")),
    )


def _written(where: str, text: str, folder: Path, allow_outside: bool) -> str:
    """The absolute path of a file that a suite has written. Raises ``UsageError`` unless it is in the suite's folder,
    whatever links there are on the way, and new or a regular file."""
    try:
        path, inside = (folder / text).resolve(), folder.resolve()
        special = path.exists() and not path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name with a zero in it
        raise UsageError(f"{where} cannot be a file: {error}") from error
    if not allow_outside and (special or not path.is_relative_to(inside)):
        raise UsageError(
            f"{where} is {text!r}, " + ("no regular file" if special else "outside the suite's folder"),
            hint="--allow-outside lets a suite write wherever its settings say",
        )
    return str(path)


def make_case(
    name: str,
    source: Any,
    camera: str | Sequence[str] = "fit",
    *,
    size: Any = "1024x768",
    frames: Sequence[int] | None = None,
    masks: Sequence[Sequence[int]] = (),
    tolerance: Mapping[str, Any] | None = None,
    compare: Sequence[str] | None = None,
    repeat: int = 2,
    options: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Case:
    """A case from Python values, read as strictly as a suite. ``source`` may be an array, a path or a list
    of them; what is relative lies in ``folder``, or in the current one. Raises ``UsageError``."""
    where = f"case {name!r}"
    folder = folder or Path()
    case = Case(
        name=check_name(name, where),
        sources=tuple(
            _located(each, folder) for each in (source if isinstance(source, list | tuple) else [source])
        ),
        cameras=tuple(
            _located_camera(text, folder) for text in ([camera] if isinstance(camera, str) else camera)
        ),
        size_px=_size(where, list(size) if isinstance(size, tuple) else size),
        options=parse_options(where, options or {}, folder, own=True),
        frames=_frames(where, None if frames is None else list(frames)),
        masks=parse_masks(where, [list(mask) for mask in masks]),
        tolerance=parse_tolerance(where, tolerance or {}),
        compare=_aspects(where, list(ASPECTS if compare is None else compare)),
        repeat=_repeat(where, repeat),
    )
    check_values(case)
    return case


def check_values(case: Case) -> None:
    """Read every option and camera once, so that a misspelt value is an error of the suite, said before
    anything is rendered. Raises ``UsageError``."""
    from octree.render.config import default_settings
    from octree.render.request import parse_request
    from octree.render.view.camera_text import parse_camera
    from octree.render.view.volume.framing import Framed

    try:
        options = {key: value for key, value in case.options.items() if key != "config"}
        request = parse_request(case.sources, case.cameras, options, settings=default_settings())
        for camera in case.cameras:
            volume = Framed(Region((0.0,) * 3, (1.0,) * 3)) if request.volume else None
            parse_camera(camera, extent=(1.0, 1.0), size_px=case.size_px, volume=volume)
    except UsageError as error:
        raise UsageError(f"case {case.name!r}: {error.message}", hint=error.hint) from error


def check_name(name: Any, where: str) -> str:
    """``name`` if it can be a file name everywhere. Raises ``UsageError``."""
    if (wrong := names.fault(name)) is not None:
        raise UsageError(f"{where}: {wrong}", hint=names.HINT)
    return str(name)


NOT_IN_SUITES = ("endpoint", "profile", "allow_http")
"""Options that say who hears of the credentials of whoever runs a suite."""


def parse_options(
    where: str, table: Mapping[str, Any], folder: Path | None = None, *, own: bool = False
) -> dict[str, Any]:
    """Render options with ``_`` for ``-``. Size has its own key; values are read when the case is rendered. ``own``: they
    are those of whoever runs it."""
    from octree.render.option_table import RENDER

    # a suite may come from somebody else: what it may read is for who runs it to say
    refused = ("size", "allow_outside", *NOT_IN_SUITES) if folder and not own else ("size",)
    allowed = [name for name in RENDER.names if name not in refused]
    options: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in allowed:
            raise UsageError(
                f"{where}: unknown option {key!r}",
                hint=f"options: {', '.join(allowed).replace('_', '-')}; size is a key of the case",
            )
        options[name] = _located(value, folder) if name == "config" and folder else value
    return options


def parse_tolerance(where: str, table: Mapping[str, Any]) -> Tolerance:
    """A tolerance from its keys; those not given keep their default."""
    _only(f"{where}: tolerance", table, TOLERANCE_KEYS)
    for key, value in table.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        high = 1 if key == "budget" else float("inf") if key == "cluster" else 255
        if not number or not 0 <= value <= high or (key == "cluster" and not isinstance(value, int)):
            kind = {"budget": "a fraction from 0 to 1", "cluster": "a whole number of pixels"}.get(key)
            raise UsageError(f"{where}: tolerance {key} must be {kind or 'from 0 to 255'}, not {value!r}")
    return Tolerance(**table)


def parse_masks(where: str, value: Any) -> tuple[Rectangle, ...]:
    """Rectangles ``[x0, y0, x1, y1]`` of frame pixels."""
    rectangles = []
    for rectangle in value if isinstance(value, list | tuple) else [value]:
        whole = isinstance(rectangle, list | tuple) and all(type(edge) is int for edge in rectangle)
        if not whole or len(rectangle) != 4:
            raise UsageError(f"{where}: a mask is [x0, y0, x1, y1] in pixels, not {rectangle!r}")
        x0, y0, x1, y1 = rectangle
        if not (x1 > x0 and y1 > y0):
            raise UsageError(f"{where}: the mask {list(rectangle)} is empty")
        rectangles.append((x0, y0, x1, y1))
    return tuple(rectangles)


# single values


def _only(where: str, table: Mapping[str, Any], allowed: Sequence[str]) -> None:
    unknown = [key for key in table if key not in allowed]
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}", hint=f"known keys: {', '.join(allowed)}")


def _table(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be a table, not {value!r}")
    return value


def _texts(where: str, key: str, value: Any) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text.strip() and "\0" not in text for text in texts):
        raise UsageError(f"{where}: {key} must be a text or a list of texts, not {value!r}")
    return texts


def _located(text: Any, folder: Path) -> Any:
    """A path relative to the suite as an absolute one; URLs stay as they are. Raises ``UsageError`` for one that no store
    has, or that holds a credential: it would end up in reports."""
    if isinstance(text, Path):
        return str(folder / text)
    if not isinstance(text, str):
        return text
    if "://" in text and local_path(text) is None:
        parse_url(text.partition("::")[0], allow_http=True)
    return text if "://" in text else str(folder / text)


def _located_camera(text: str, folder: Path) -> str:
    return str(folder / text.strip()) if _is_camera_file(text) else text


def _is_camera_file(text: str) -> bool:
    return text.strip().lower().endswith(".json") and "=" not in text


def _as_named(text: str) -> str:
    """A path as it is written, less what does not count: two ways to name one file are one name."""
    return text if "://" in text else posixpath.normpath(text)


def _size(where: str, value: Any) -> tuple[int, int]:
    from octree.render.option_table import parse_size

    if isinstance(value, list) and len(value) == 2:
        value = f"{value[0]}x{value[1]}"
    try:
        return parse_size(value)
    except UsageError as error:
        raise UsageError(f"{where}: size: {error.message}", hint=error.hint) from error


def _frames(where: str, value: Any) -> tuple[int, ...] | None:
    if value is None or value == "all":
        return None
    whole = isinstance(value, list) and all(type(i) is int and 0 <= i < MAX_FRAMES for i in value)
    if not whole or not value:
        raise UsageError(f"{where}: frames must be a list of indices from 0, not {value!r}")
    return tuple(dict.fromkeys(value))


def _aspects(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(aspect in ASPECTS for aspect in value):
        raise UsageError(f"{where}: compare must be a list out of {', '.join(ASPECTS)}, not {value!r}")
    return tuple(value)


def _repeat(where: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 100:
        raise UsageError(f"{where}: repeat must be a whole number from 1 to 100, not {value!r}")
    return value
