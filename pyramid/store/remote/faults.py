"""What a request that failed means: in words, and whether it is worth another try. Pure."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from octree.pyramid.errors import SourceError

FAULTS = (
    "missing-bucket",
    "forbidden",
    "unauthorized",
    "busy",
    "server",
    "reset",
    "short",
    "stalled",
    "refused",
    "dns",
    "tls",
    "ranges",
    "page",
    "exists",
    "changed",
    "redirected",
    "request",
)
AGAIN = frozenset({"busy", "server", "reset", "short", "stalled", "refused", "dns"})
"""What may go well when it is tried again."""


class RemoteError(SourceError):
    """A request to a store that failed for good. ``fault`` is a word of ``FAULTS``."""

    kind = "remote"
    final = True

    def __init__(self, message: str, *, fault: str, hint: str | None = None, **details: Any) -> None:
        super().__init__(message, hint=hint, fault=fault, **details)
        self.fault = fault


class Fault(NamedTuple):
    """``word`` of ``FAULTS``; ``code`` that the store gave: ``503``, ``403 ExpiredToken``, or ""."""

    word: str
    code: str = ""

    @property
    def again(self) -> bool:
        return self.word in AGAIN


def fault_of(kind: str, text: str) -> Fault | None:
    """Of an error of obstore: the name of its class, and its text. None: there is no such value."""
    status = (re.search(r"status code: (\d{3})", text) or ["", ""])[1]
    code = (re.search(r"<Code>(\w+)</Code>", text) or ["", ""])[1]
    said = f"{status} {code}".strip()
    if kind == "FileNotFoundError" or status in ("404", "410"):
        return Fault("missing-bucket", said) if code == "NoSuchBucket" else None
    if kind in ("AlreadyExistsError", "PreconditionError", "NotModifiedError"):
        return Fault("exists" if kind == "AlreadyExistsError" else "changed", said)
    if "RangeNotSupported" in text or "NotPartial" in text:
        return Fault("ranges")
    if status:
        return Fault(_of_status(status, code), said)
    return Fault(_of_connection(text))


_TOKENS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "RequestTimeTooSkewed",
}
_BUSY = {"SlowDown", "RequestTimeout", "RequestLimitExceeded", "ServiceUnavailable"}


def _of_status(status: str, code: str) -> str:
    if status == "401" or code in _TOKENS:
        return "unauthorized"
    if status in ("429", "503", "408") or code in _BUSY:
        return "busy"
    if status == "403":
        return "forbidden"
    if status == "412":
        return "changed"
    if status in ("301", "302", "307", "308"):
        return "redirected"
    return "server" if status.startswith("5") else "request"


_SIGNS = (
    ("redirected", r"127\.0\.0\.1:1\b"),  # the proxy that is none: see client.py
    ("redirected", r"BareRedirect"),
    ("stalled", r"TimedOut|kind: Timeout|operation timed out"),
    ("refused", r"ConnectionRefused|HostUnreachable|NetworkUnreachable|No route to host"),
    ("dns", r"lookup address|dns error"),
    ("tls", r"certificate|Certificate|handshake|[Tt]ls|rustls|InvalidMessage|CorruptMessage"),
    ("short", r"IncompleteBody"),
    ("reset", r"IncompleteMessage|UnexpectedEof|ConnectionReset|BrokenPipe|ConnectionAborted|kind: Interrupted|kind: Request\b|error sending request"),
)  # fmt: skip


def _of_connection(text: str) -> str:
    return next((word for word, sign in _SIGNS if re.search(sign, text)), "request")


_CREDENTIALS = "credentials come from AWS_PROFILE, AWS_ACCESS_KEY_ID or GOOGLE_APPLICATION_CREDENTIALS; --anonymous gives none"


class _Words(NamedTuple):
    what: str
    hint: str


_WORDS = {
    "missing-bucket": _Words("there is no such bucket", "check its spelling, --endpoint and --region"),
    "forbidden": _Words(
        "it may not be read",
        f"{_CREDENTIALS}; a bucket that may not be listed answers 403 for what is not there: --missing 403 takes it for that",
    ),
    "unauthorized": _Words("the store does not accept the credentials, or wants some", _CREDENTIALS),
    "busy": _Words("the store is busy", "wait, or give --retries 10"),
    "server": _Words("the store answered with an error of its own", "try again later; or give --retries 10"),
    "reset": _Words("the connection was lost", "try again; --retries 10 tries more often"),
    "short": _Words("the connection ended before the whole value had come", "try again; --retries 10 tries more often"),
    "stalled": _Words("nothing came any more", "the network or the store hangs; --read-timeout 60s waits longer"),
    "refused": _Words("nobody answers there", "check host and port, and whether the server runs"),
    "dns": _Words("the name of its host is not known", "check its spelling, and the network"),
    "tls": _Words(
        "no encrypted connection was agreed on",
        "the certificate is not trusted here, or the server speaks http:// only",
    ),
    "ranges": _Words(
        "the server gives whole files only, and this one is large",
        "use a server that answers ranges (nginx, Apache, any object store), or copy it here first",
    ),
    "page": _Words(
        "a web page came instead of the value",
        "a login or an error page; open the URL in a browser, and name what can be read without logging in",
    ),
    "exists": _Words("it is there already", "name another one"),
    "changed": _Words("it has been changed by someone else meanwhile", "see who else writes there"),
    "redirected": _Words(
        "the store sends its readers elsewhere", "give --region or --endpoint of where the bucket lies"
    ),
    "request": _Words("the store refused the request", "check the URL, --endpoint and --region"),
}  # fmt: skip


def error_of(url: str, fault: Fault, tries: int = 1, doing: str = "read") -> RemoteError:
    """The error for users, of the value at ``url``."""
    words = _WORDS[fault.word]
    more = [f"HTTP {fault.code}"] if fault.code else []
    more += [f"{tries} tries"] if tries > 1 else []
    said = f" ({', '.join(more)})" if more else ""
    what = words.what.replace("may not be read", f"may not be {_DONE[doing]}")
    return RemoteError(
        f"{url} cannot be {_DONE[doing]}: {what}{said}",
        fault=fault.word,
        hint=words.hint,
        path=url,
        status=fault.code or None,
        tries=tries,
    )


_DONE = {"read": "read", "write": "written", "list": "listed", "remove": "removed"}
