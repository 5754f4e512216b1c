"""Which OpenGL library vispy calls. Import vispy's modules from here, so that it is chosen in one place.

vispy loads a library when ``vispy.gloo`` is first imported, long before we know the platform, and warns when
there is no libGL. It looks its functions up on first use, so the library can be exchanged until then.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import re
from pathlib import Path
from typing import Any

from octree.pyramid.errors import GLError

_OSMESA_NAMES = ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so", "libOSMesa.8.dylib", "osmesa.dll")
_LIBRARY = "VISPY_GL_LIB"


def osmesa_library() -> str | None:
    """Name of the OSMesa library that can be loaded, or None."""
    for name in _OSMESA_NAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    return ctypes.util.find_library("OSMesa")


def _import_gl() -> Any:
    """vispy's GL module, without its own search: OSMesa if there, the usual library if not."""
    before = os.environ.get(_LIBRARY)
    if before is None and (name := osmesa_library()) is not None:
        os.environ[_LIBRARY] = name
    try:
        from vispy.gloo.gl import gl2
    except ImportError as error:
        raise GLError(
            f"vispy cannot be imported: {error}",
            hint="on Linux it needs fontconfig (Debian, Ubuntu: apt-get install libfontconfig1; Fedora: dnf install fontconfig)",
        ) from error
    finally:
        # child processes make their own choice
        if before is None:
            os.environ.pop(_LIBRARY, None)
    return gl2


_gl2 = _import_gl()

from vispy import gloo  # noqa: E402 # the library comes first
from vispy.gloo import (  # noqa: E402 # the library comes first
    gl,
    glir,
)
from vispy.visuals.visual import Visual  # noqa: E402 # the library comes first

__all__ = ["Visual", "gl", "glir", "gloo", "native", "osmesa_library", "shader_pair", "use_library"]


def shader_pair(name: str, head: str) -> tuple[str, str]:
    """The vertex and the fragment shader of this name beside this file (or in a folder beside it), each with ``head``
    put in front. A line ``#include NAME`` is the text of that file."""
    # importlib.resources would do as well, after an import that takes longer than reading them
    here = Path(__file__).parent
    vertex, fragment = ((here / f"{name}.{kind}").read_text("utf-8") for kind in ("vert", "frag"))
    pieces = re.split(r"^#include (\S+)$", fragment, flags=re.MULTILINE)
    pieces[1::2] = [(here / piece).read_text("utf-8") for piece in pieces[1::2]]
    return head + vertex, head + "".join(pieces)


@functools.cache  # bricks ask for thousands
def native(name: str, argtypes: tuple[Any, ...]) -> Any:
    """A function without a result of the library that vispy calls, which vispy itself does not know. Raises RuntimeError
    where the library lacks it."""
    return _gl2._get_gl_func(name, None, argtypes)


def use_library(name: str | None) -> None:
    """Let vispy call this library (None: the system's OpenGL); GLError when it already called another."""
    if name is None:
        name = ctypes.util.find_library("GL") or ctypes.util.find_library("OpenGL")
        if name is None:
            raise GLError("the OpenGL library (libGL) is not installed")
    library = ctypes.CDLL(name)
    called = any(hasattr(function, "_native") for function in vars(_gl2).values() if callable(function))
    if called and library._handle != getattr(_gl2._lib, "_handle", None):
        raise GLError(
            "another part of this process already draws with a different OpenGL library",
            hint="one process has one OpenGL platform: start another process for the other one",
        )
    _gl2._lib = library
