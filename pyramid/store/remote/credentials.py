"""Whose name requests go under: what the environment says, a profile, or nobody. Never a request to a machine's
metadata service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octree.pyramid.store.remote.options import RemoteOptions

_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_S3_OTHERS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Credentials that the provider gets by itself, where these variables say so."""
_GS = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY")
_AZ = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN",
       "AZURE_STORAGE_TOKEN", "AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID")  # fmt: skip


def s3_settings(options: RemoteOptions, env: Mapping[str, str]) -> dict[str, Any]:
    """Endpoint, region and credentials of an S3 store, for obstore."""
    endpoint = options.endpoint or next((env[name] for name in _S3_ENDPOINTS if env.get(name)), None)
    region = options.region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    settings: dict[str, Any] = {"region": region}
    if endpoint:
        settings |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if not options.anonymous and env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        settings["access_key_id"] = env["AWS_ACCESS_KEY_ID"]
        settings["secret_access_key"] = env["AWS_SECRET_ACCESS_KEY"]
        if env.get("AWS_SESSION_TOKEN"):
            settings["session_token"] = env["AWS_SESSION_TOKEN"]
    elif options.anonymous or not any(env.get(name) for name in _S3_OTHERS):
        settings["skip_signature"] = True
    return settings


def gs_settings(options: RemoteOptions, env: Mapping[str, str]) -> dict[str, Any]:
    given = not options.anonymous and any(env.get(name) for name in _GS)
    return {} if given else {"skip_signature": True}


def az_settings(options: RemoteOptions, env: Mapping[str, str]) -> dict[str, Any]:
    given = not options.anonymous and any(env.get(name) for name in _AZ)
    settings: dict[str, Any] = {} if given else {"skip_signature": True}
    return {**settings, "endpoint": options.endpoint} if options.endpoint else settings
