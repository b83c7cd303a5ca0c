"""A server that speaks S3, on loopback, in a process of its own: moto, which is not AWS.

In a process of its own because some calls of the Delta library hold Python's lock while they wait.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch
from urllib.request import Request, urlopen

SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class ObjectStore:
    """A running server with one bucket."""

    url: str
    bucket: str
    noted: Path                            # a line for each request

    def requests(self) -> list[str]:
        """Every request so far: method and path."""
        return re.findall(r"(?:GET|PUT|POST|DELETE|HEAD) /\S*", self.noted.read_text())


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """A server with an empty bucket, to which the environment points meanwhile."""
    noted = folder / "requests.txt"
    with noted.open("w") as told, subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told,
        text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            told_keys = {
                "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "something",
            }  # fmt: skip
            with patch.dict("os.environ", told_keys):
                urlopen(Request(f"{url}/lakes", method="PUT", data=b"")).close()
                yield ObjectStore(url, "lakes", noted)
        finally:
            process.kill()
