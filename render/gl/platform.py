"""OpenGL for this process. The only file with glfw hints and ``vispy.use``.

One process has one platform and one context, made on the first ``start`` and kept: vispy loads its GL library
once per process, and textures are shared by all canvases. Main thread only.

    osmesa   glfw's null platform with an OSMesa context: software, no display needed
    window   a hidden window of the desktop (X11, Wayland, macOS, Windows)
    egl      EGL without a surface, software or GPU, no display needed
    auto     window when a display answers, else osmesa, else egl
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import re
import sys
from dataclasses import asdict, dataclass
from typing import Any

from octree.pyramid.errors import GLError, UsageError
from octree.render.gl import library

PLATFORMS = ("auto", "osmesa", "window", "egl")

HINTS = {
    "osmesa": "install OSMesa (Debian, Ubuntu: apt-get install libosmesa6; Fedora: dnf install mesa-libOSMesa), "
    "or use --gl egl or --gl window",
    "window": "set DISPLAY or WAYLAND_DISPLAY, run under xvfb-run (apt-get install xvfb libgl1), or use --gl osmesa",
    "egl": "install EGL and a driver (Debian, Ubuntu: apt-get install libegl1 libgl1 libgl1-mesa-dri), "
    "or use --gl osmesa",
    "auto": "install OSMesa (Debian, Ubuntu: apt-get install libosmesa6), then try again; "
    "`octree doctor` shows what each platform lacks",
}


@dataclass(frozen=True, slots=True)
class RendererInfo:
    """Which OpenGL draws. ``fingerprint`` is equal where the same pixels are expected; ``family`` is coarser."""

    platform: str
    vendor: str
    renderer: str
    version: str
    max_texture_size: int
    fingerprint: str
    family: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Process:
    """The one context of the process; owned by the main thread."""

    canvas: Any = None
    info: RendererInfo | None = None


_process = _Process()


def start(gl: str = "auto", *, max_threads: int | None = None) -> RendererInfo:
    """Make the process's OpenGL context, or make the existing one current.

    ``max_threads`` limits a software rasteriser; it works on the first call only. Raises UsageError for an
    unknown platform and GLError when there is no usable OpenGL, or when another platform already runs.
    """
    if gl not in PLATFORMS:
        raise UsageError(f"no OpenGL platform called {gl!r}", hint=f"one of {', '.join(PLATFORMS)}")
    if _process.info is not None:
        if gl not in ("auto", _process.info.platform):
            raise GLError(
                f"this process already draws with {_process.info.platform}, it cannot also use {gl}",
                hint="one process has one OpenGL platform: start another process for the other one",
            )
        _process.canvas.set_current()
        return _process.info
    if max_threads is not None:
        os.environ["LP_NUM_THREADS"] = str(max_threads)  # read by Mesa when its library is loaded
    _ask_for_exact_filters()
    platform = _choose() if gl == "auto" else gl
    try:
        _process.canvas = _OPENERS[platform]()
        _process.info = _describe(platform)
    except GLError:
        raise
    except Exception as error:  # whatever vispy, glfw or a driver throws means: no OpenGL here
        raise GLError(
            f"no usable OpenGL on platform {platform}: {error}", hint=HINTS[platform], platform=platform
        ) from error
    return _process.info


def _ask_for_exact_filters() -> None:
    """Mesa's software rasteriser interpolates 8-bit texels in 8 bits, a whole step off and slower, unless told so before it
    starts. No frame of planes changes: they do not let OpenGL interpolate."""
    words = [word for word in os.environ.get("GALLIVM_PERF", "").split(",") if word]
    if "no_aos_sampling" not in words:
        os.environ["GALLIVM_PERF"] = ",".join([*words, "no_aos_sampling"])


def context_canvas() -> Any:
    """The hidden vispy canvas that holds the process's context; GLError before ``start``."""
    if _process.canvas is None:
        raise GLError("OpenGL is not started", hint="make a Canvas first")
    return _process.canvas


def make_current() -> None:
    """Make the process's context the current one, unless vispy says that it is: that would reset its state."""
    canvas = context_canvas()
    if library.gloo.get_current_canvas() is not canvas:
        canvas.set_current()


def _choose() -> str:
    if _display_answers():
        return "window"
    if library.osmesa_library() is not None:
        return "osmesa"
    if ctypes.util.find_library("EGL") is not None:
        return "egl"
    raise GLError("no OpenGL here: no display, no OSMesa and no EGL library", hint=HINTS["auto"])


def _display_answers() -> bool:
    """Whether glfw can open a hidden window, tried because a DISPLAY that is set may be dead."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    glfw = _glfw()

    with _quiet(glfw):
        if not glfw.init():
            return False
        glfw.window_hint(glfw.VISIBLE, 0)
        window = glfw.create_window(16, 16, "octree", None, None)
        if window:
            glfw.destroy_window(window)
            return True
        glfw.terminate()
        return False


def _glfw() -> Any:
    """The glfw module, with the library that its wheel brings: left to itself it starts a Python process to ask
    each candidate for its version, a tenth of a whole render, and looks in the working directory first."""
    variable = "PYGLFW_LIBRARY"
    spec = importlib.util.find_spec("glfw")
    if variable not in os.environ and spec is not None and spec.submodule_search_locations:
        variant = "wayland" if os.environ.get("XDG_SESSION_TYPE") == "wayland" else "x11"
        bundled = os.path.join(spec.submodule_search_locations[0], variant, "libglfw.so")
        if os.path.exists(bundled):
            os.environ[variable] = bundled
            try:
                import glfw
            finally:
                del os.environ[variable]
            return glfw
    import glfw

    return glfw


class _quiet:
    """No warnings from glfw inside: a failed probe is an answer, not news."""

    def __init__(self, glfw: Any) -> None:
        self._glfw = glfw
        self._before = glfw.ERROR_REPORTING

    def __enter__(self) -> None:
        self._glfw.ERROR_REPORTING = False

    def __exit__(self, *_: object) -> None:
        self._glfw.ERROR_REPORTING = self._before


def _open_osmesa() -> Any:
    name = library.osmesa_library()
    if name is None:
        raise GLError("the OSMesa library is not installed", hint=HINTS["osmesa"], platform="osmesa")
    library.use_library(name)
    glfw = _glfw()

    glfw.init_hint(glfw.PLATFORM, glfw.PLATFORM_NULL)
    if not glfw.init():
        raise GLError("glfw could not start its null platform", hint=HINTS["osmesa"], platform="osmesa")
    glfw.window_hint(glfw.CONTEXT_CREATION_API, glfw.OSMESA_CONTEXT_API)
    return _vispy_canvas("glfw")


def _open_window() -> Any:
    glfw = _glfw()

    glfw.init_hint(glfw.PLATFORM, glfw.ANY_PLATFORM)
    with _quiet(glfw):
        if not glfw.init():
            raise GLError("no display answers", hint=HINTS["window"], platform="window")
    library.use_library(None)
    return _vispy_canvas("glfw")


def _open_egl() -> Any:
    if ctypes.util.find_library("EGL") is None:
        raise GLError("the EGL library is not installed", hint=HINTS["egl"], platform="egl")
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("EGL_PLATFORM", "surfaceless")
    library.use_library(None)
    return _vispy_canvas("egl")


_OPENERS = {"osmesa": _open_osmesa, "window": _open_window, "egl": _open_egl}


def _vispy_canvas(app: str) -> Any:
    import vispy

    vispy.use(app=app, gl="gl2")
    from vispy.app import Canvas

    config = {"samples": 0, "depth_size": 0, "stencil_size": 0}
    # a dpi, because vispy would run xdpyinfo for it, which prints to stdout when it fails
    canvas = Canvas(
        size=(16, 16), show=False, autoswap=False, vsync=False, dpi=96, config=config, title="octree"
    )
    canvas.set_current()
    return canvas


def _describe(platform: str) -> RendererInfo:
    gl = library.gl
    _process.canvas.context.flush_commands()
    texts = [str(gl.glGetParameter(name) or "") for name in (gl.GL_VENDOR, gl.GL_RENDERER, gl.GL_VERSION)]
    if not texts[2]:
        raise GLError("the OpenGL context does not answer", hint=HINTS[platform], platform=platform)
    size = int(gl.glGetParameter(gl.GL_MAX_TEXTURE_SIZE))
    size = min(size, int(gl.glGetParameter(gl.GL_MAX_RENDERBUFFER_SIZE)))
    vendor, renderer, version = texts
    return RendererInfo(platform, vendor, renderer, version, size, *fingerprint_of(vendor, renderer, version))


def fingerprint_of(vendor: str, renderer: str, version: str) -> tuple[str, str]:
    """(fingerprint, family) of a renderer, short and fit for a file name.

    A software rasteriser compiles its shaders for the processor, so its vector width and vendor belong to it.
    """
    import platform as machine

    arch = machine.machine().lower().replace("amd64", "x86_64") or "unknown"
    if "llvmpipe" in renderer.lower():
        llvm = re.search(r"LLVM\s+(\d+)", renderer)
        width = re.search(r"(\d+)\s*bits", renderer)
        mesa = re.search(r"Mesa\s+(\d+\.\d+)", version)
        parts = [
            "llvmpipe",
            f"mesa{mesa[1] if mesa else '?'}",
            f"llvm{llvm[1] if llvm else '?'}",
            f"{width[1] if width else '?'}bit",
            _cpu_vendor(),
            arch,
        ]
        return _slug("-".join(parts)), _slug(f"llvmpipe-{arch}")
    driver = re.search(r"\d+\.\d+(?:\.\d+)*\s+(.*)", version)
    family = _slug(f"{vendor.split()[0] if vendor else 'gl'}-{renderer}")
    return _slug(f"{family}-{driver[1] if driver else version}"), family


def _cpu_vendor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("vendor_id"):
                    return line.split(":")[1].strip()
    except OSError:
        pass
    return "cpu"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower())[:120].strip("-.")
