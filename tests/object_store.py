"""An object store with the interface of S3, on this machine."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from systems import free_port
from waiting import wait_until

_KEY = "testing"


@contextmanager
def object_store() -> Iterator[str]:
    """Its address for `storage`, in a bucket of its own, without a folder."""
    port = free_port()
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), 60, "moto's server")
        client = boto3.client("s3", "us-east-1", endpoint_url=url, aws_access_key_id=_KEY, aws_secret_access_key=_KEY)
        client.create_bucket(Bucket="perennial")
        yield f"s3://{_KEY}:{_KEY}@perennial/{{folder}}?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
