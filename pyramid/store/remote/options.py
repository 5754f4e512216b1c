"""How remote stores are reached: as values, and as options of the commands. Pure and light: ``--help`` imports this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from octree.pyramid.errors import UsageError
from octree.pyramid.options import FLAG, TEXT, Kind, Option, Table, choice, whole
from octree.pyramid.units import parse_time_ms


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """``endpoint`` of an S3 store that is not Amazon's. ``retries``: tries per request, the first one included.

    ``read_timeout_s``  how long nothing may come, not how long all may take.
    ``missing_403``     403 means that there is no such value, as buckets say it that may not be listed.
    ``in_flight``       requests at a time, of each store.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False
    allow_http: bool = False
    retries: int = 3
    read_timeout_s: float = 10.0
    connect_timeout_s: float = 5.0
    missing_403: bool = False
    in_flight: int = 64


DEFAULT_REMOTE = RemoteOptions()


def _endpoint(value: Any) -> str:
    """Raises UsageError for what is no URL of a web server, or holds a password."""
    from octree.pyramid.store.remote.url import WEB, parse_url

    if not isinstance(value, str) or not value.lower().startswith(tuple(f"{scheme}://" for scheme in WEB)):
        # not shown: it may hold a password
        raise UsageError("no URL of a server", hint="as in https://host:9000")
    parse_url(value, allow_http=True)
    return value.rstrip("/")


def _timeout_s(value: Any) -> float:
    time_ms = parse_time_ms(value)
    if time_ms <= 0:
        raise ValueError(value)
    return time_ms / 1000


_GROUP = "Remote stores"
REMOTE = Table(
    "remote",
    (
        Option("endpoint", Kind("the URL of a server, as https://host:9000", _endpoint, "URL"),
               "S3 server that is not Amazon's.", unset="AWS_ENDPOINT_URL", group=_GROUP, live=True),
        Option("region", TEXT, "Region of the bucket.", unset="AWS_REGION, or us-east-1", group=_GROUP, live=True),
        Option("profile", TEXT, "Profile of ~/.aws/credentials and ~/.aws/config.", unset="AWS_PROFILE", group=_GROUP, live=True),
        Option("anonymous", FLAG, "Give no credentials, as public buckets want it.", group=_GROUP, live=True),
        Option("allow_http", FLAG, "http:// off this machine too: whoever listens between here and there reads along.",
               group=_GROUP, live=True),
        Option("retries", whole(1, 100), "Tries per request, the first one included.", unset="3", group=_GROUP, live=True),
        Option("read_timeout", Kind("a time above 0, as 30s", _timeout_s, "TIME"),
               "How long nothing may come before a request is given up.", unset="10s", group=_GROUP, live=True),
        Option("missing", choice("404", "403"),
               "403: forbidden means not there, as buckets say it that may not be listed.", unset="404", group=_GROUP, live=True),
    ),
)  # fmt: skip


def read_remote(given: Mapping[str, Any]) -> RemoteOptions:
    """From options by name, texts or values; names of other tables are left alone. Raises UsageError."""
    read = REMOTE.read({name: given[name] for name in REMOTE.names if name in given})
    default = DEFAULT_REMOTE
    return RemoteOptions(
        endpoint=read["endpoint"],
        region=read["region"] or None,
        profile=read["profile"] or None,
        anonymous=read["anonymous"],
        allow_http=read["allow_http"],
        retries=read["retries"] or default.retries,
        read_timeout_s=read["read_timeout"] or default.read_timeout_s,
        missing_403=read["missing"] == "403",
    )
