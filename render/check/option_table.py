"""The options of ``octree check``, each declared once. Light: ``--help`` imports this."""

from __future__ import annotations

from octree.pyramid.options import ANY, FLAG, PATH, TEXT, Option, Table, choice, whole
from octree.pyramid.store.remote.options import REMOTE

SCOPES = ("auto", "exact", "family", "default")
CHECK = Table(
    "check",
    (
        Option("accept", FLAG,
               "Take the frames that the last run staged as baselines: of the CASEs, or of all."),
        Option("reason", TEXT, "Why they are accepted; kept in the manifest.", ""),
        Option("scope", choice(*SCOPES),
               "For which renderers an accepted baseline holds: exact (this one), family, default (all), or auto.", "auto"),
        Option("baselines", PATH, "Folder of baselines.", unset="baselines/ beside SUITE"),
        Option("output", PATH, "Folder for reports and staged frames.", "octree-check"),
        Option("whole_pictures", FLAG, "Pictures of report.html whole, also beyond 5 MB: else where they differ, or every second pixel."),
        Option("require_renderer", TEXT,
               "Fail unless the renderer's name or fingerprint contains this, as llvmpipe."),
        Option("jobs", whole(1), "Cases that are rendered at once, each in a process of this machine.", 1),
        Option("scheduler", ANY,
               "Render cases in several processes: local (one for each core, or --jobs), or a dask scheduler as tls://host:8786.",
               unset="in this process, or --jobs"),
        Option("allow_outside", FLAG,
               "Let settings files that SUITE names write logs outside the folder of SUITE, and what its sources "
               "name (companion files, links) lie outside of theirs."),
        *REMOTE,
    ),
)  # fmt: skip
