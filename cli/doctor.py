"""``octree doctor``: which OpenGL each platform gives, and what to install for the others."""

from __future__ import annotations

from typing import Any

import typer

from octree.cli.options import Debug, Json


def doctor(json_: Json = False, debug: Debug = False) -> None:
    """Print which OpenGL each platform gives, what is missing, and the command that installs it."""
    from octree.cli.console import print_json

    facts = _examine()
    if json_:
        print_json(facts)
    else:
        _print_facts(facts)
    if not facts["ok"]:
        raise typer.Exit(6)


def _examine() -> dict[str, Any]:
    import os
    import platform
    from importlib.metadata import version

    from octree.render.gl.probe import probe_all

    platforms = probe_all()
    usable = [found["platform"] for found in platforms if found["usable"]]
    # as platform.start chooses
    auto = next((name for name in ("window", "osmesa", "egl") if name in usable), None)
    facts: dict[str, Any] = {
        "ok": bool(usable),
        "auto": auto,
        "platforms": platforms,
        "extras": _extras(),
        "octree_version": version("octree"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "display": os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"),
    }
    if not usable:
        # the same form as any failure, beside the facts
        facts["error"] = {
            "kind": "gl",
            "message": "no platform gives a usable OpenGL: frames cannot be rendered here",
            "hint": platforms[0]["hint"],
        }
    return facts


def _extras() -> list[dict[str, Any]]:
    """Optional parts: whether they can be imported, and how to get them."""
    from importlib.util import find_spec

    parts = (
        ("video", "imageio_ffmpeg", "films (.mp4)"),
        ("distributed", "distributed", "builds on a dask.distributed cluster"),
    )
    return [
        {"name": name, "for": use, "installed": True}
        if find_spec(module)
        else {"name": name, "for": use, "installed": False, "hint": f"pip install 'octree[{name}]'"}
        for name, module, use in parts
    ]


def _print_facts(facts: dict[str, Any]) -> None:
    from octree.cli.console import put

    put(f"octree {facts['octree_version']}, Python {facts['python']}, {facts['system']}")
    put(f"{facts['cpus']} CPUs, display {facts['display'] or 'none'}")
    put()
    for found in facts["platforms"]:
        name = f"--gl {found['platform']:<7}"
        if found["usable"]:
            renderer = found["renderer"]
            put(f"{renderer['renderer']}, OpenGL {renderer['version']}", lead=(name, "ok       ", "green"))
            put(
                f"{'':<22}textures up to {renderer['max_texture_size']}, fingerprint {renderer['fingerprint']}"
            )
        else:
            put(found["error"], lead=(name, "missing  ", "red"))
            if found["hint"]:
                put(f"{'':<22}{found['hint']}")
    for extra in facts["extras"]:
        there, name = extra["installed"], f"{extra['name']:<12}"
        lead = (name, "ok       ", "green") if there else (name, "missing  ", "yellow")
        put(extra["for"] + ("" if there else f": {extra['hint']}"), lead=lead)
    put()
    if facts["ok"]:
        put(f"--gl auto takes {facts['auto']}.")
    else:
        put("", lead=("", facts["error"]["message"], "bold red"))
