"""Whose name requests go under, and that nobody else hears of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import Loopback, serving

from octree.pyramid import build
from octree.pyramid.errors import UsageError
from octree.pyramid.store.remote.client import client_of, waited
from octree.pyramid.store.remote.credentials import az_settings, gs_settings, s3_settings
from octree.pyramid.store.remote.faults import RemoteError
from octree.pyramid.store.remote.options import RemoteOptions, read_remote

SECRET, TOKEN = "s3cr3tK3yOfNobody", "t0k3nOfNobody"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables and files of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "GCE_", "STORAGE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def server() -> Iterator[Loopback]:
    with serving({"bucket/x": b"abc"}) as server:
        yield server


def profiles(home: Path) -> dict[str, str]:
    (home / ".aws").mkdir()
    (home / ".aws/credentials").write_text(
        f"[default]\naws_access_key_id=AKIDDEF\naws_secret_access_key={SECRET}\n"
        f"[lab]\naws_access_key_id = AKIDLAB\naws_secret_access_key = {SECRET}%\n"
    )
    (home / ".aws/config").write_text(
        "[profile lab]\nregion = eu-north-1\nendpoint_url = https://lab:9000\n[profile sso]\nsso_session = x\n"
    )
    return {"HOME": str(home)}


def test_the_environment_comes_first_then_a_profile_then_nobody(tmp_path: Path) -> None:
    home, plain = profiles(tmp_path), RemoteOptions()
    assert s3_settings(plain, {"HOME": "/none"}) == {"region": "us-east-1", "skip_signature": True}
    assert s3_settings(plain, home)["keys"] == ("AKIDDEF", SECRET, "")
    assert s3_settings(plain, {**home, **KEYS})["keys"] == ("AKIDENV", SECRET, TOKEN)
    lab = s3_settings(plain, {**home, "AWS_PROFILE": "lab"})
    assert (lab["keys"][:2], lab["region"], lab["endpoint"]) == (
        ("AKIDLAB", SECRET + "%"),
        "eu-north-1",
        "https://lab:9000",
    )
    # what is named on the command line goes before the environment
    named = RemoteOptions(profile="lab", region="here", endpoint="https://there")
    own = s3_settings(named, {**home, **KEYS, "AWS_REGION": "no", "AWS_ENDPOINT_URL": "https://no"})
    assert (own["keys"][0], own["region"], own["endpoint"]) == ("AKIDLAB", "here", "https://there")
    assert "keys" not in s3_settings(RemoteOptions(anonymous=True), {**home, **KEYS})


@pytest.mark.parametrize(
    ("profile", "words"), [("none", "there is no profile 'none'"), ("sso", "holds no keys")]
)
def test_profiles_that_give_no_keys(tmp_path: Path, profile: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        s3_settings(RemoteOptions(profile=profile), profiles(tmp_path))


@pytest.mark.parametrize("named", [True, False])
def test_a_profile_of_another_way_is_never_taken_for_nobody(tmp_path: Path, named: bool) -> None:
    """Forbidden would be all that was said."""
    (tmp_path / ".aws").mkdir()
    section = "profile lab" if named else "default"
    (tmp_path / ".aws/config").write_text(f"[{section}]\nrole_arn = arn:aws:iam::1:role/x\n")
    env = {"HOME": str(tmp_path), **({"AWS_PROFILE": "lab"} if named else {})}
    with pytest.raises(UsageError, match="holds no keys"):
        s3_settings(RemoteOptions(), env)
    assert s3_settings(RemoteOptions(anonymous=True), env)["skip_signature"]
    assert s3_settings(RemoteOptions(), {**env, **KEYS})["keys"][0] == "AKIDENV"


def test_the_machines_metadata_are_asked_only_where_somebody_says_so() -> None:
    plain = RemoteOptions()
    for settings in (
        s3_settings(plain, {"HOME": "/none"}),
        gs_settings(plain, {"HOME": "/none"}),
        az_settings(plain, {}),
    ):
        assert settings["skip_signature"] is True
    assert "skip_signature" not in s3_settings(plain, {"AWS_EC2_METADATA_DISABLED": "false"})
    assert "skip_signature" not in s3_settings(plain, {"AWS_WEB_IDENTITY_TOKEN_FILE": "f"})
    assert "skip_signature" not in gs_settings(plain, {"GOOGLE_APPLICATION_CREDENTIALS": "f"})


def test_gs_asks_its_endpoint(server: Loopback) -> None:
    got = waited(client_of("gs://bucket", RemoteOptions(endpoint=server.url)).get("x"))
    assert got is not None
    assert bytes(got.data) == b"abc"
    assert "authorization" not in server.asked[0].headers


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_credentials_that_are_none_are_said_without_them(
    scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key.json"
    file.write_text(SECRET)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with pytest.raises(UsageError, match="cannot be reached with the credentials") as caught:
        client_of(f"{scheme}://bucket")
    assert SECRET not in str(caught.value.to_json())


def test_the_token_of_the_environment_goes_with_no_other_key(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profiles(tmp_path)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://other.invalid")
    waited(client_of("s3://bucket", RemoteOptions(endpoint=server.url, profile="lab")).get("x"))
    (asked,) = server.asked
    assert "Credential=AKIDLAB/" in asked.headers["authorization"]
    assert "x-amz-security-token" not in asked.headers


def test_redirects_to_other_hosts_carry_no_credentials(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with serving({"bucket/x": b"stolen"}) as other:
        server.rule = lambda asked: "redirect"
        server.redirect_to = other.url.replace("127.0.0.1", "localhost")
        with pytest.raises(RemoteError) as caught:
            waited(client_of("s3://bucket", RemoteOptions(endpoint=server.url)).get("x"))
        assert caught.value.fault == "redirected"
        monkeypatch.delenv("AWS_SESSION_TOKEN")
        waited(client_of("s3://bucket", RemoteOptions(endpoint=server.url)).get("x"))
        assert "authorization" in server.asked[-1].headers
        assert other.asked
        for asked in other.asked:
            assert not {"authorization", "x-amz-security-token", "cookie"} & set(asked.headers)
            assert SECRET not in f"{asked}"


@pytest.mark.parametrize(
    "endpoint", [f"https://me:{SECRET}@host", f"me:{SECRET}@host", f"https://host?k={SECRET}", "s3://x", 7]
)
def test_endpoints_that_are_none(endpoint: Any) -> None:
    with pytest.raises(UsageError, match="--endpoint") as caught:
        read_remote({"endpoint": endpoint})
    assert SECRET not in str(caught.value.to_json())


def test_an_endpoint_off_this_machine_is_encrypted() -> None:
    options = read_remote({"endpoint": "http://host.example"})
    with pytest.raises(UsageError, match="neither encrypted"):
        client_of("s3://bucket", options)


def test_no_secret_reaches_any_output(server: Loopback, tmp_path: Path) -> None:
    """Every command, going well and failing, with keys in the environment: nothing that is printed or written holds them."""
    build(np.arange(90_000, dtype=np.uint16).reshape(300, 300), tmp_path / "a.zarr", tile=64)
    files = {p: p.read_bytes() for p in (tmp_path / "a.zarr").rglob("*") if p.is_file()}
    server.values |= {f"bucket/{p.relative_to(tmp_path).as_posix()}": data for p, data in files.items()}
    server.rule = lambda asked: "403" if asked.path == "bucket/a.zarr/0/c/0/0" else None
    out = tmp_path / "out"
    out.mkdir()
    suite = out / "suite.toml"
    suite.write_text('[[case]]\nname = "a"\nsource = "s3://bucket/a.zarr"\nsize = "64x64"\n')
    written = ["-o", "a.png", "--report", "r.json", "--html", "r.html", "--trace", "t.json"]
    lines = [
        ["info", "s3://bucket/a.zarr", "--json"],
        ["info", "s3://bucket/none", "--debug"],
        ["render", "s3://bucket/a.zarr", *written, "--debug"],
        ["render", f"https://me:{SECRET}@host/x", "-o", "b.png", "--debug"],
        ["build", "s3://bucket/a.zarr", "b.zarr", "--debug"],
        ["build", f"https://host/x?X-Amz-Signature={SECRET}", "c.zarr", "--json"],
        ["verify", "s3://bucket/a.zarr", "--debug"],
        ["check", "suite.toml"],
        ["config"],
    ]
    env = {**os.environ, **KEYS, "AWS_ENDPOINT_URL": server.url, "HOME": str(tmp_path)}
    code = f"import json, sys\nfrom octree.cli.app import run\nfor line in json.loads({json.dumps(lines)!r}):\n    print(line[0], run(line))"
    done = subprocess.run([sys.executable, "-c", code], cwd=out, env=env, capture_output=True, text=True)
    said = [done.stdout, done.stderr]
    said += [p.read_bytes().decode("latin-1") for p in out.rglob("*") if p.is_file()]
    assert (out / "r.html").exists()
    assert "HTTP 403" in done.stderr
    for text in said:
        assert SECRET not in text
        assert TOKEN not in text
    assert any("authorization" in one.headers for one in server.asked)
