"""Starts the Service Bus stand-in for the official Python SDK, or uses one that runs already.

BULKHEAD_BUS_CONNECTION_STRING  use this broker, which must serve topology.json and be fresh
BULKHEAD_BUS_COMMAND            start this instead of the `stack` executable; `{topology}` and
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
from azure.servicebus import ServiceBusClient

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
TOPOLOGY = HERE / "topology.json"
START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 5


def default_command():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    stack = target / "debug" / "stack"
    return (
        f"{shlex.quote(str(stack))} serve bus --ephemeral --listen 127.0.0.1:0"
        " --topology {topology} --ready-file {ready}"
    )


def wait_for_address(process, ready, log):
    """The address in the ready file, once the broker has written all of it."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the broker exited with {process.returncode}: {log.read_text()}")
        try:
            return json.loads(ready.read_text())["address"]
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.02)
    raise RuntimeError(f"the broker was not ready in {START_SECONDS_MAX} s: {log.read_text()}")


@pytest.fixture(scope="session")
def connection_string(tmp_path_factory):
    given = os.environ.get("BULKHEAD_BUS_CONNECTION_STRING")
    if given:
        yield given
        return
    directory = tmp_path_factory.mktemp("bus")
    ready, log = directory / "ready.json", directory / "bus.log"
    template = os.environ.get("BULKHEAD_BUS_COMMAND") or default_command()
    command = [part.format(topology=TOPOLOGY, ready=ready) for part in shlex.split(template)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = wait_for_address(process, ready, log)
        yield (
            f"Endpoint=sb://{address};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
        )
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture
def client(connection_string):
    """A client of its own per test, with few retries so that refusals fail fast."""
    with ServiceBusClient.from_connection_string(
        connection_string, retry_total=1, retry_backoff_factor=0.05
    ) as client:
        yield client


@pytest.fixture
def queue(request):
    """The queue of the test's own: `test_peek_does_not_touch` has `peek-does-not-touch`, followed
    by the parameter if there is one."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")
    parameters = getattr(request.node, "callspec", None)
    return f"{name}-{parameters.id}" if parameters else name


@pytest.fixture
def unique():
    """A new id per call."""
    return lambda: uuid.uuid4().hex
