"""The declared dependencies, the imports and docs/dependencies.md say the same."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Any

from test_house import ROOMS, ROOT, imported, sources


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"])


def distribution(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def importers() -> dict[str, set[str]]:
    """Of each distribution that the rooms import, the folders of the files that do."""
    known, found = packages_distributions(), {}
    for path in sources(*ROOMS):
        tops = {name.partition(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"octree"}
        for top in tops:
            (name,) = {distribution(one) for one in known[top]}
            found.setdefault(name, set()).add(path.parent.relative_to(ROOT).as_posix())
    return found


def test_dependencies_are_those_that_are_imported() -> None:
    """docs/dependencies.md has a row for each: where it is imported, or why it is there though it is not."""
    optional = project()["optional-dependencies"]
    declared = {distribution(one) for one in project()["dependencies"]}
    extras = {distribution(one) for name in ("distributed", "video") for one in optional[name]}
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([a-z0-9-]+) \| ([^|]*) \|", text, re.MULTILINE))
    rows.pop("package")
    found = importers()
    found.pop("pytest")  # of the plugin, which only pytest loads
    assert not set(found) - declared - extras, "imported, but not declared"
    assert set(rows) == declared | extras
    for name, where in rows.items():
        folders = set(re.findall(r"`([a-z/]+)/`", where))
        if where != "everywhere":
            assert folders == found.get(name, set()), (
                f"{name} is imported in {sorted(found.get(name, set()))}"
            )
            assert folders or where.startswith("not imported: ")
