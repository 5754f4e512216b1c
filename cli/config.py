"""``octree config``: the settings in force, or the default file."""

from __future__ import annotations

from typing import Annotated

import typer

from octree.cli.options import Debug, Json, Quiet
from octree.render.option_table import RENDER


def config(
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Print the default settings file instead of what is in force.")
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            help="Settings file. Without it: $OCTREE_CONFIG, then $NAPARI_OCTREE, then the defaults.",
            show_default=False,
        ),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Print the settings in force, as a settings file.

    The output is a file that --config takes; what it came from is said on stderr.
    """
    from octree.cli.console import print_json, say
    from octree.pyramid.errors import UsageError
    from octree.render.config import default_settings, load_settings

    if defaults and config is not None:
        raise UsageError("--defaults and --config exclude each other")
    file = None if config is None else RENDER["config"].read(config)
    settings = default_settings() if defaults else load_settings(file)
    print_json(settings.to_json())
    if not (quiet or json_ or defaults):
        say(f"settings from {settings.origin}")
