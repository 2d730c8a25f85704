"""Starts the Event Grid stand-in and a sample subscriber for the official Python SDK.

BULKHEAD_GRID_COMMAND  start this instead of the `stack` executable; `{topology}`, `{ready}`,
                       `{dead_letters}`, `{subscriber}` and `{queue}` stand for the topology file,
                       the ready file, a directory, the address of the subscriber and that of the
                       Storage queues
"""

import contextlib
import json
import os
import pathlib
import shlex
import subprocess
import time
import uuid

import pytest
import requests
from azure.core.credentials import AzureKeyCredential
from azure.eventgrid import EventGridPublisherClient

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
# Published, for the stand-in in docs/local-services.md and by Microsoft for all emulators of
# Storage, hence no secrets.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
KEY = "bG9jYWwtZXZlbnQtZ3JpZC1rZXktZ29vZC1mb3Itbm8="
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
STACK = shlex.quote(str(TARGET / "debug" / "stack"))
GRID = (
    f"{STACK} serve grid --listen 127.0.0.1:0 --topology {{topology}}"
    " --fill SUBSCRIBER_URL=http://{subscriber} --dead-letters {dead_letters}"
    f" --fill QUEUE_URL=http://{{queue}}/{ACCOUNT}"
    " --ready-file {ready}"
)
QUEUE = f"{STACK} serve queue --listen 127.0.0.1:0 --topology {{topology}} --ready-file {{ready}}"
SUBSCRIBER = f"{STACK} serve subscriber --listen 127.0.0.1:0 --ready-file {{ready}}"
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


@contextlib.contextmanager
def service(command, ready):
    """Runs a service; its address once it is ready."""
    process = subprocess.Popen(shlex.split(command), cwd=REPOSITORY)
    try:

        def started():
            assert process.poll() is None, f"the service ended with {process.returncode}"
            try:
                return json.loads(ready.read_text())["address"]
            except (FileNotFoundError, json.JSONDecodeError):
                return None

        yield wait_for(started, START_SECONDS_MAX, "start of the service")
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture(scope="session")
def subscriber(tmp_path_factory):
    ready = tmp_path_factory.mktemp("subscriber") / "ready.json"
    with service(SUBSCRIBER.format(ready=ready), ready) as address:
        yield f"http://{address}"


@pytest.fixture(scope="session")
def queue(tmp_path_factory):
    """The address of the Storage queues."""
    ready = tmp_path_factory.mktemp("queue") / "ready.json"
    with service(QUEUE.format(topology=HERE / "topology.json", ready=ready), ready) as address:
        yield address


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory, subscriber, queue):
    directory = tmp_path_factory.mktemp("grid")
    ready = directory / "ready.json"
    template = os.environ.get("BULKHEAD_GRID_COMMAND", GRID)
    address = subscriber.removeprefix("http://")
    command = template.format(
        topology=HERE / "topology.json",
        ready=ready,
        dead_letters=directory,
        subscriber=address,
        queue=queue,
    )
    with service(command, ready) as address:
        yield f"http://{address}/orders/api/events"


@pytest.fixture
def publisher(endpoint):
    with EventGridPublisherClient(endpoint, AzureKeyCredential(KEY), **ONCE) as publisher:
        yield publisher


@pytest.fixture
def subject():
    """The subject of a test's own events."""
    return uuid.uuid4().hex


@pytest.fixture
def delivered(subscriber):
    """Waits until so many events about a subject were delivered, and returns them by id."""

    def delivered(subject, count):
        def all_there():
            got = requests.get(f"{subscriber}/events", {"subject": subject}, timeout=10).json()
            events = {entry["event"]["id"]: entry["event"] for entry in got["events"]}
            return events if len(events) >= count else None

        events = wait_for(all_there, 30, f"{count} events about {subject}")
        assert len(events) == count
        return events

    return delivered
