"""What URLs name, and which are refused."""

from __future__ import annotations

import pytest

from octree.pyramid.errors import UsageError
from octree.pyramid.store.remote.url import local_path, parse_url, redacted

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "root", "key"),
    [
        ("https://host/a/b.zarr", "https://host", "a/b.zarr"),
        ("HTTPS://Host:8443/a%20b/%C3%A4", "https://host:8443", "a b/ä"),
        ("http://127.0.0.1:80/", "http://127.0.0.1:80", ""),
        ("http://[::1]:8080/x", "http://[::1]:8080", "x"),
        ("http://localhost/x/", "http://localhost", "x"),
        ("s3://bucket/folder/a%20b", "s3://bucket", "folder/a%20b"),
        ("gs://bucket", "gs://bucket", ""),
        ("az://container/a b?c", "az://container", "a b?c"),
    ],
)
def test_names(url: str, root: str, key: str) -> None:
    address = parse_url(url)
    assert (address.root, address.key) == (root, key)
    assert parse_url(str(address)) == address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://host/x", "knows no ftp://"),
        ("://x", "knows no"),
        (f"https://me:{SECRET}@host/x", "user name or password"),
        (f"s3://{SECRET}:key@bucket/x", "user name or password"),
        (f"https://host/x?X-Amz-Signature={SECRET}", "signatures"),
        (f"https://host/x#{SECRET}", "signatures"),
        ("https:///x", "names no host"),
        ("https://host:99999/x", "no URL"),
        ("http://host/x", "neither encrypted"),
        ("s3:///x", "no name of a bucket"),
        ("https://host/a//b", "empty part"),
        ("https://host/a/../b", "empty part"),
        ("https://host/a%00b", "control character"),
    ],
)
def test_refuses(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        parse_url(url)
    assert SECRET not in f"{caught.value.to_json()}"


def test_http_where_it_is_allowed() -> None:
    assert parse_url("http://host/x", allow_http=True).root == "http://host"


def test_shown_without_secrets() -> None:
    assert redacted(f"https://me:{SECRET}@host/a?b={SECRET}#c") == "https://…@host/a?…"


def test_files_of_this_machine() -> None:
    assert local_path("file:///a/b%20c.zarr") == "/a/b c.zarr"
    assert local_path("file://localhost/a") == "/a"
    assert local_path("https://host/a") is None
    with pytest.raises(UsageError, match="machine 'other'"):
        local_path("file://other/a")
