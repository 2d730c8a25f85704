"""Starts the Storage queue stand-in for the official Python SDK, or uses one that runs already.

BULKHEAD_QUEUE_CONNECTION_STRING  use this service, which must serve topology.json and be fresh
BULKHEAD_QUEUE_COMMAND            start this instead of the `stack` executable; `{topology}` and
                                  `{ready}` stand for the topology file and the ready file
"""

import json
import os
import pathlib
import shlex
import subprocess
import time
import uuid

import pytest
from azure.storage.queue import QueueClient, QueueServiceClient

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
# Published by Microsoft for all emulators, hence no secret.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
COMMAND = (
    f"{shlex.quote(str(TARGET / 'debug' / 'stack'))} serve queue --listen 127.0.0.1:0"
    " --topology {topology} --ready-file {ready}"
)
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 10
# A refusal must show at once, not after the SDK has tried it four times.
ONCE = {"retry_total": 0}


def wait_for(condition, deadline_seconds=15, what="condition"):
    """Polls until `condition` returns something true, and returns it."""
    end = time.monotonic() + deadline_seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"{what} not met within {deadline_seconds} s")


@pytest.fixture(scope="session")
def connection_string(tmp_path_factory):
    given = os.environ.get("BULKHEAD_QUEUE_CONNECTION_STRING")
    if given:
        yield given
        return
    ready = tmp_path_factory.mktemp("queue") / "ready.json"
    template = os.environ.get("BULKHEAD_QUEUE_COMMAND", COMMAND)
    command = template.format(topology=HERE / "topology.json", ready=ready)
    process = subprocess.Popen(shlex.split(command), cwd=REPOSITORY)
    try:

        def started():
            assert process.poll() is None, f"the service ended with {process.returncode}"
            try:
                return json.loads(ready.read_text())["address"]
            except (FileNotFoundError, json.JSONDecodeError):
                return None

        address = wait_for(started, START_SECONDS_MAX, "start of the service")
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"QueueEndpoint=http://{address}/{ACCOUNT};"
        )
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture(scope="session")
def service(connection_string):
    with QueueServiceClient.from_connection_string(connection_string, **ONCE) as service:
        yield service


@pytest.fixture
def name():
    """The name of a queue of the test's own, which is not there yet."""
    return f"own-{uuid.uuid4().hex}"


@pytest.fixture
def queue(connection_string, name):
    """A queue of the test's own."""
    with QueueClient.from_connection_string(connection_string, name, **ONCE) as queue:
        queue.create_queue()
        yield queue
        queue.delete_queue()
