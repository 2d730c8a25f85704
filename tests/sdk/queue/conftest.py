"""Starts the Storage queue stand-in for the official Python SDK, or something to compare it with.

BULKHEAD_QUEUE_SERVICE            `azurite` runs the same tests against Microsoft's emulator, which
                                  `npm ci` in tests/sdk/queue-js installs
BULKHEAD_QUEUE_CONNECTION_STRING  use this service, which must serve topology.json and be fresh
BULKHEAD_QUEUE_COMMAND            start this instead of the `stack` executable; `{topology}` and
                                  `{ready}` stand for the topology file and the ready file
"""

import contextlib
import json
import os
import pathlib
import re
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
AZURITE = HERE.parent / "queue-js/node_modules/azurite/dist/src/queue/main.js"
# The SDK is newer than any emulator; Azurite then wants to be told that this is known.
AZURITE_COMMAND = (
    f"node {shlex.quote(str(AZURITE))} --queueHost 127.0.0.1 --queuePort 0 --inMemoryPersistence"
    " --skipApiVersionCheck --disableTelemetry --silent"
)
IS_AZURITE = os.environ.get("BULKHEAD_QUEUE_SERVICE") == "azurite"
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


def string_for(address):
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"QueueEndpoint=http://{address}/{ACCOUNT};"
    )


@contextlib.contextmanager
def running(command, **options):
    process = subprocess.Popen(shlex.split(command), cwd=REPOSITORY, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@contextlib.contextmanager
def stand_in(folder, further=""):
    """A stand-in with the declared queues: its process and its address."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    template = os.environ.get("BULKHEAD_QUEUE_COMMAND", COMMAND)
    command = template.format(topology=HERE / "topology.json", ready=ready) + further
    with running(command) as process:

        def started():
            assert process.poll() is None, f"the service ended with {process.returncode}"
            try:
                return json.loads(ready.read_text())["address"]
            except (FileNotFoundError, json.JSONDecodeError):
                return None

        yield process, wait_for(started, START_SECONDS_MAX, "start of the service")


@contextlib.contextmanager
def azurite():
    """Azurite with the declared queues: its address."""
    assert AZURITE.exists(), "run `npm ci` in tests/sdk/queue-js first"
    with running(AZURITE_COMMAND, stdout=subprocess.PIPE, text=True) as process:
        listens = re.compile(r"listens on http://(\S+)")
        address = next((m[1] for line in process.stdout if (m := listens.search(line))), None)
        assert address, "Azurite has not said where it listens"
        with QueueServiceClient.from_connection_string(string_for(address), **ONCE) as service:
            for queue in json.loads((HERE / "topology.json").read_text())["storage"]["queues"]:
                service.create_queue(queue)
        yield address


@pytest.fixture(scope="session")
def connection_string(tmp_path_factory):
    given = os.environ.get("BULKHEAD_QUEUE_CONNECTION_STRING")
    if given:
        yield given
    elif IS_AZURITE:
        with azurite() as address:
            yield string_for(address)
    else:
        with stand_in(tmp_path_factory.mktemp("queue")) as (_, address):
            yield string_for(address)


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
