"""docs/options.md from the tables of options: ``python -m octree.cli.option_page > docs/options.md``."""

from __future__ import annotations

from octree.pyramid.building.option_table import BUILD, RUNNING
from octree.pyramid.options import Option
from octree.render.check.option_table import CHECK
from octree.render.option_table import OUTPUTS, RENDER, SPREAD

_HEAD = """# Options

Made from the tables that the commands read; a test keeps it so. Every option can be given on the command line, in the
environment (`OCTREE_BUILD_TILE`), and in Python by its name with `_` for `-` (`build(…, ome_version="0.4")`); those of
`render` in the `options` of a suite as well, but for what says where files go. An option marked × may be given once for each layer.
"""


def page() -> str:
    """The whole page."""
    tables = [
        ("octree build", [*BUILD, *RUNNING]),
        ("octree render", [*RENDER, *SPREAD, *OUTPUTS]),
        ("octree check", [*CHECK]),
    ]
    return "\n".join([_HEAD, *(_section(title, options) for title, options in tables)])


def _section(title: str, options: list[Option]) -> str:
    rows = [f"## {title}", "", "| option | value | meaning | default |", "|---|---|---|---|"]
    rows += [
        f"| `{o.long}`{' ×' if o.many else ''} | {'' if o.flag else o.kind.words} | {o.help} | {o.default_text} |"
        for group in dict.fromkeys(option.group for option in options)
        for o in options
        if o.group == group
    ]
    return "\n".join([*rows, ""])


if __name__ == "__main__":
    print(page(), end="")
