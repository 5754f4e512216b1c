"""How remote stores are reached. Pure."""

from __future__ import annotations

from dataclasses import dataclass


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
