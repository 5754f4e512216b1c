"""What the HTML pages share: templates, pictures inside the page, plots as SVG."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octree.pyramid.foreign import printable
from octree.pyramid.units import bytes_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROOM = Path(__file__).parent


def render_page(template: str, **values: Any) -> str:
    """A page from a template of this room or of ``check`` (``*.html.jinja``); values are escaped unless marked as safe."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([_ROOM, _ROOM.parent / "check"]),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source, _, _ = environment.loader.get_source(environment, template)  # type: ignore[union-attr]  # made with one
    environment.globals["policy"] = policy(source)
    environment.filters["lines"] = lines
    environment.filters["bytes"] = bytes_or_dash
    environment.filters["ms"] = human_ms
    return environment.get_template(template).render(**values)


def policy(template: str) -> str:
    """What a page may do: show its own pictures, and run the scripts of its template, known by their digests. Text
    that got in as markup in spite of all would be shown by no browser as more than text."""
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in re.findall(r"<script>(.*?)</script>", template, re.S)
    ]
    scripts = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: 'self'; "
        f"style-src 'unsafe-inline'; script-src {scripts}"
    )


def lines(text: str) -> Any:
    """A text of ours of several lines, each shown as it is."""
    from markupsafe import Markup, escape

    return Markup("\n").join(escape(printable(line)) for line in text.split("\n"))


def _shown(value: Any) -> Any:
    """Every value on a page: what is not marked as safe may be text from a file."""
    return printable(value) if type(value) is str else value


def data_url(picture: bytes, kind: str = "png") -> str:
    """A picture as an address that is the picture; marked as safe, being of letters and digits."""
    from markupsafe import Markup

    return Markup(f"data:image/{kind};base64," + base64.b64encode(picture).decode("ascii"))


def bytes_or_dash(count: float | None) -> str:
    """``1.5 KiB``; – for None."""
    return "–" if count is None else bytes_text(count)


def human_ms(value: float | None) -> str:
    """Milliseconds for people; – for None."""
    if value is None:
        return "–"
    return (
        f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"
    )


@contextmanager
def plotting(width_in: float = 8.0, height_in: float = 2.4) -> Iterator[tuple[Figure, Axes]]:
    """A figure and its axes, without pyplot: nothing global is set, no window can open. Text stays text and
    takes the page's colour."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.rcsetup import cycler

    style: Any = {
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": "octree",  # ids from the content, so that a page is the same every time
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=["#3b6fb6", "#d9822b", "#3f9a63", "#9a5fb0", "#8a8a8a"]),
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        yield figure, axes


def svg_of(figure: Figure, *, prefix: str) -> str:
    """The figure as an <svg> element to put into a page. ``prefix`` keeps the ids of several apart. Call it
    inside ``plotting``."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", text)
    # black is the page's text colour, which a dark page turns
    return re.sub(r"(stroke|fill): ?#000000", r"\1: currentColor", text)
