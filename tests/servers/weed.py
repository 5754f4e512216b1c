"""SeaweedFS: an S3 store of its own, in some 120 MiB and 1.3 s. Conditional PUT and wrong keys are as on S3."""

from __future__ import annotations

import http.client
import json
import sys
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from servers.keeper import Kept
from servers.ports import free_ports, until_ready

KEY, SECRET = "octreekey", "octreesecret"
BUCKET, PUBLIC = "octree", "public"
_RIGHTS = {
    "identities": [
        {
            "name": "admin",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {"name": "anonymous", "actions": [f"Read:{PUBLIC}", f"List:{PUBLIC}"]},
    ]
}
_SERVICES = ("s3", "master", "volume", "filer", "admin")
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Weed:
    """``port`` of the S3 service, and ``ports`` of all; the bucket ``octree`` wants the key, ``public`` may be read and listed by anybody."""

    port: int
    ports: tuple[int, ...] = ()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables for commands and libraries, which leave out the user's own files and the metadata of the machine."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def start_weed(folder: Path) -> tuple[Weed, Kept]:
    """A server with its data in ``folder``. Raises RuntimeError with what it said when it does not start."""
    (folder / "rights.json").write_text(json.dumps(_RIGHTS))
    log = folder / "weed.log"
    for _ in range(_TRIES):
        ports = free_ports(2 * len(_SERVICES) + 1)
        command = [
            str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "mini",
            f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET},{PUBLIC}",
            f"-s3.config={folder / 'rights.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-webdav=false", "-admin.ui=false", "-master.telemetry=false", f"-metricsPort={ports.pop()}",
        ]  # fmt: skip
        for service, http_port, rpc_port in zip(_SERVICES, ports[::2], ports[1::2], strict=True):
            command += [f"-{service}.port={http_port}", f"-{service}.port.grpc={rpc_port}"]
        weed, kept = Weed(ports[0], tuple(ports)), Kept(command, folder, log)
        if until_ready(lambda weed=weed: _answers(weed), lambda kept=kept: kept.has_ended):  # type: ignore[misc]
            return weed, kept
        kept.close()
    raise RuntimeError(f"weed does not start: {log.read_text(errors='replace')[-2000:]}")


def _answers(weed: Weed) -> bool:
    """Once the bucket is there that is made last."""
    connection = http.client.HTTPConnection("127.0.0.1", weed.port, timeout=5)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", f"/{PUBLIC}?list-type=2")
        return connection.getresponse().status == 200
    return False


def sockets_of(weed: Weed) -> list[Path]:
    """What it leaves in the folder of temporary files."""
    return [path for port in weed.ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]
