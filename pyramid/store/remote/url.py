"""What a URL names, and which are refused. Pure but for ``is_url``, which looks whether there is such a file."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from octree.pyramid.errors import UsageError

WEB = ("http", "https")
BUCKETS = ("s3", "gs", "az")
SCHEMES = (*WEB, *BUCKETS)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LIST = "https://, s3://, gs://, az:// and file://"


class Address(NamedTuple):
    """``root`` is what requests go to: ``https://host:8080``, ``s3://bucket``; ``key`` a name in it, not encoded, without
    a ``/`` at either end."""

    scheme: str
    root: str
    key: str

    def __str__(self) -> str:
        return said(self.root, self.key)


def said(root: str, key: str) -> str:
    """The URL of ``key``: as users give it."""
    if not key:
        return root
    return f"{root}/{quote(key) if root.startswith(WEB) else key}"


def is_url(text: str | os.PathLike[str]) -> bool:
    """``scheme://…``, and no file or folder of that name."""
    return isinstance(text, str) and "://" in text and not os.path.exists(text)


def redacted(text: str) -> str:
    """A URL as it may be shown: without a password, and without what follows ``?`` or ``#``."""
    plain = re.sub(r"(://)[^/?#]*@", r"\1…@", text)
    return re.sub(r"[?#].*", lambda found: f"{found[0][0]}…", plain, flags=re.DOTALL)


def local_path(text: str) -> str | None:
    """The path of a ``file://`` URL; None of another one. Raises UsageError for one of another machine."""
    if not text.lower().startswith("file://"):
        return None
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{redacted(text)} is a file of the machine {parts.hostname!r}",
            hint="file:///folder/image.zarr, with three slashes, is one of this machine",
        )
    return unquote(text[len("file://") + len(parts.netloc) :])


def parse_url(text: str, *, allow_http: bool = False) -> Address:
    """Raises UsageError for what is no URL of a store, and for one that holds a password or a signature: it would end up in
    reports and journals."""
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    shown = redacted(text)
    if scheme not in SCHEMES:
        raise UsageError(
            f"{shown}: octree knows no {scheme or text.partition('://')[0]}:// stores",
            hint=f"local paths, {_LIST} are read",
        )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"{shown} is no URL: {error}", hint="check its spelling") from error
    if "@" in parts.netloc:
        raise UsageError(
            f"{shown} holds a user name or password, which would end up in reports",
            hint="give credentials in the environment: AWS_PROFILE, AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS",
        )
    if scheme in BUCKETS:
        # of a bucket's keys every character means itself
        bucket, _, key = text[len(scheme) + 3 :].partition("/")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
            raise UsageError(
                f"{shown}: {bucket!r} can be no name of a bucket",
                hint=f"as in {scheme}://bucket/folder/image.zarr",
            )
        return Address(scheme, f"{scheme}://{bucket}", checked_key(key, shown))
    if parts.query or parts.fragment or text.rstrip("/").endswith("?"):
        raise UsageError(
            f"{shown}: a URL with ?… or #… is refused: signatures in it would end up in reports, and the values below it "
            "have no such",
            hint="name what it leads to without that, or read it under its own store: s3://bucket/key",
        )
    if not host:
        raise UsageError(f"{shown} names no host", hint="as in https://host/folder/image.zarr")
    if scheme == "http" and not (allow_http or is_loopback(host)):
        raise UsageError(
            f"{shown} is neither encrypted nor on this machine",
            hint="use https://, or give --allow-http if nobody listens between here and there",
        )
    name = f"[{host}]" if ":" in host else host
    root = f"{scheme}://{name}" + (f":{port}" if port is not None else "")
    return Address(scheme, root, checked_key(unquote(parts.path), shown))


def checked_key(key: str, shown: str) -> str:
    """A key as stores have it. Raises UsageError for one that no store has."""
    plain = key.strip("/")
    if any(part in ("", ".", "..") for part in plain.split("/")) and plain:
        raise UsageError(f"{shown}: an empty part, . or .. is no name in a store", hint="write it without")
    if re.search(r"[\0-\x1f\x7f]", plain):
        raise UsageError(f"{shown}: there is a control character in it", hint="check its spelling")
    return plain


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
