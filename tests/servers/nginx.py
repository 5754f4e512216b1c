"""nginx over a folder: an HTTP server as they are, and a log that counts requests."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from servers.keeper import Kept
from servers.ports import free_ports, listens, until_ready

_SETTINGS = """\
{user}worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  log_format octree '$request_method $status $body_bytes_sent "$http_range" $request_uri';
  access_log {folder}/access.log octree;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  keepalive_requests 100000;
  server {{ listen 127.0.0.1:{port} backlog=512; root {root}; autoindex off; }}
}}
"""
_PLACES = ("/usr/sbin", "/usr/local/sbin")
_TRIES = 3


class Line(NamedTuple):
    """One request as nginx wrote it down."""

    method: str
    status: int
    bytes: int
    range: str
    path: str


@dataclass(frozen=True, slots=True)
class Nginx:
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests(self) -> list[Line]:
        """All so far. nginx writes a line when it has sent all of an answer, which may be after the client has it."""
        lines = []
        for line in self.log.read_text().splitlines():
            head, asked, path = line.split('"')
            method, status, count = head.split()
            lines.append(Line(method, int(status), int(count), asked, path.strip()))
        return lines


def start_nginx(root: Path, folder: Path) -> tuple[Nginx, Kept]:
    """A server of the files below ``root`` that keeps its own in ``folder``. Raises RuntimeError."""
    program = shutil.which("nginx") or next(
        (f"{place}/nginx" for place in _PLACES if Path(place, "nginx").exists()), None
    )
    if program is None:
        raise RuntimeError("nginx is not installed: bash scripts/setup test")
    # started by root it would read as a user who may not look into folders of tests
    user = "user root; " if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    for _ in range(_TRIES):
        (port,) = free_ports(1)
        (folder / "nginx.conf").write_text(_SETTINGS.format(folder=folder, root=root, port=port, user=user))
        kept = Kept(
            [program, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder, folder / "out.log"
        )
        if until_ready(lambda port=port: listens(port), lambda kept=kept: kept.has_ended):  # type: ignore[misc]
            return Nginx(port, folder / "access.log"), kept
        kept.close()
    raise RuntimeError(f"nginx does not start: {(folder / 'out.log').read_text()[-2000:]}")
