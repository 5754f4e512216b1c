"""Whose name requests go under: what the environment says, a profile, or nobody. A machine's metadata service is asked
only where a variable says so."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from typing import Any

from octree.pyramid.errors import UsageError
from octree.pyramid.store.remote.options import RemoteOptions

_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_S3_OTHERS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Credentials that the library gets by itself, where these variables say so."""
_OTHER_WAYS = (
    "sso_session",
    "sso_start_url",
    "role_arn",
    "credential_process",
    "credential_source",
    "login_session",
)
"""What says in a profile that it has credentials, which only the tools of Amazon get."""
_GS = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GCE_METADATA_HOST",
)
_GS_FILE = ".config/gcloud/application_default_credentials.json"
_AZ = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN",
       "AZURE_STORAGE_TOKEN", "AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID")  # fmt: skip


def s3_settings(options: RemoteOptions, env: Mapping[str, str]) -> dict[str, Any]:
    """Endpoint, region and credentials of an S3 store, for obstore; ``keys`` are (id, secret, token or ""). Raises
    UsageError for a profile that there is none of, or whose credentials only the tools of Amazon can make."""
    said: Mapping[str, str] = {}
    own = _keys(env, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    if options.profile or own is None:
        said = _profile(options, env)
    if options.profile:
        own = None
    keys = own or _keys(said, "aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    endpoint = options.endpoint or next((env[name] for name in _S3_ENDPOINTS if env.get(name)), None)
    endpoint = endpoint or said.get("endpoint_url")
    region = options.region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or said.get("region")
    settings: dict[str, Any] = {"region": region or "us-east-1"}
    if endpoint:
        plain = endpoint.rstrip("/")
        # both names: the library prefers what the environment says under the second
        settings |= {"endpoint": plain, "aws_endpoint_url_s3": plain, "virtual_hosted_style_request": False}
    if keys and not options.anonymous:
        settings["keys"] = keys
    elif options.anonymous or not _is_elsewhere(env):
        settings["skip_signature"] = True
    return settings


def _keys(said: Mapping[str, str], name: str, secret: str, token: str) -> tuple[str, str, str] | None:
    return (said[name], said[secret], said.get(token, "")) if said.get(name) and said.get(secret) else None


def _is_elsewhere(env: Mapping[str, str]) -> bool:
    """Does the environment say where credentials come from? The metadata service counts only where it is wanted in so many
    words: asking for it where there is none takes seconds, and tells others that somebody asks."""
    wanted = env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "false"
    return wanted or any(env.get(name) for name in _S3_OTHERS)


def _profile(options: RemoteOptions, env: Mapping[str, str]) -> dict[str, str]:
    """What ~/.aws/credentials and ~/.aws/config say of the profile; {} where nobody named one and there is no default."""
    named = options.profile or env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE")
    name = named or "default"
    home = env.get("HOME") or os.path.expanduser("~")
    files = (
        (
            env.get("AWS_CONFIG_FILE") or f"{home}/.aws/config",
            "default" if name == "default" else f"profile {name}",
        ),
        (env.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials", name),
    )
    said: dict[str, str] = {}
    found = False
    for path, section in files:
        parsed = _parsed(os.path.expanduser(path))
        if parsed.has_section(section):
            found = True
            said |= dict(parsed.items(section, raw=True))
    if named and not found and not options.anonymous:
        raise UsageError(
            f"there is no profile {named!r} in {files[1][0]} or {files[0][0]}",
            hint="check --profile and AWS_PROFILE; --anonymous gives no credentials",
        )
    other_ways = any(key in said for key in _OTHER_WAYS) and not _is_elsewhere(env)
    if (options.profile or other_ways) and not options.anonymous and "aws_access_key_id" not in said:
        raise UsageError(
            f"the profile {name!r} holds no keys, and how it gets some is not done here",
            hint=f'eval "$(aws configure export-credentials --profile {name} --format env)" puts keys into the environment; '
            "--anonymous gives none",
        )
    return said


def _parsed(path: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", strict=False)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError:
        pass
    except (configparser.Error, UnicodeDecodeError) as error:
        # its words are not shown: they quote the file
        raise UsageError(f"{path} is no file of profiles", hint="correct it, or give --anonymous") from error
    return parser


def gs_settings(options: RemoteOptions, env: Mapping[str, str]) -> dict[str, Any]:
    """Of Google Cloud Storage; ``--endpoint`` and STORAGE_EMULATOR_HOST are for servers like it."""
    home = env.get("HOME") or os.path.expanduser("~")
    given = any(env.get(name) for name in _GS) or os.path.exists(f"{home}/{_GS_FILE}")
    settings: dict[str, Any] = {} if given and not options.anonymous else {"skip_signature": True}
    endpoint = options.endpoint or env.get("STORAGE_EMULATOR_HOST")
    return {**settings, "base_url": endpoint.rstrip("/")} if endpoint else settings


def az_settings(options: RemoteOptions, env: Mapping[str, str]) -> dict[str, Any]:
    """Of Azure: AZURE_STORAGE_ACCOUNT_NAME says of which account the container is."""
    given = not options.anonymous and any(env.get(name) for name in _AZ)
    settings: dict[str, Any] = {} if given else {"skip_signature": True}
    return {**settings, "endpoint": options.endpoint} if options.endpoint else settings
