"""A page in a real browser: headless Chromium, which scripts/setup installs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


def browser() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "these tests need Chromium: apt-get install chromium"
    return found


def _run(folder: Path, *flags: str) -> str:
    profile = folder / "profile"
    command = [browser(), *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=3000", *flags]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    shutil.rmtree(profile, ignore_errors=True)
    return done.stdout.decode()


def ask(page: Path, folder: Path, script: str, width_px: int = 800) -> Any:
    """What ``script`` (the body of an async function) returns in the page; and the page's errors, under
    ``errors``. The network does not answer."""
    asking = f"""(async () => {{
  const answer = await (async () => {{ {script} }})();
  const out = document.createElement("pre"); out.id = "answer";
  out.textContent = JSON.stringify({{answer, errors}});
  document.body.append(out);
}})();"""
    probe = f"""
<script>window.errors = []; addEventListener("error", (e) => errors.push(String(e.message || e.target.outerHTML.slice(0, 80))), true);</script>
{_allowing(asking, page.read_text(encoding="utf-8"))}
<script>{asking}</script>"""
    copy = folder / f"probe-{page.name}"
    copy.write_text(probe, encoding="utf-8")
    window = f"--window-size={width_px},600"
    dom = _run(folder, window, "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", copy.as_uri())
    found = re.search(r'<pre id="answer">(.*?)</pre>', dom, re.S)
    assert found, dom[-2000:]
    told = json.loads(unescape(found[1]))
    assert told["errors"] == []
    return told["answer"]


def _allowing(script: str, page: str) -> str:
    """The page with this script too among those that its policy names."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return page.replace("script-src ", f"script-src &#39;sha256-{digest}&#39; ", 1)


def screenshot(page: Path, folder: Path, size: tuple[int, int] = (1100, 2400)) -> Any:
    """The page as pixels, (height, width, 4)."""
    from octree.render.output.png import read_png

    out = folder / "screenshot.png"
    _run(folder, f"--window-size={size[0]},{size[1]}", f"--screenshot={out}", page.as_uri())
    return read_png(out)
