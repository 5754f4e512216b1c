"""What ``import octree`` gives: its version, and ``build``. Everything else is in ``octree.pyramid`` and ``octree.render``;
``octree.render`` is the package, and its function ``octree.render.render``.

Lies here since the rooms lie beside each other, with no folder for what they are in (``package-dir`` in pyproject.toml).
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("octree")
    if name == "build":
        from octree.pyramid import build

        return build
    raise AttributeError(f"module 'octree' has no attribute {name!r}")
