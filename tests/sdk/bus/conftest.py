"""Starts the Service Bus stand-in for the official Python SDK, or uses one that runs already.

BULKHEAD_BUS_CONNECTION_STRING  use this broker, which must serve topology.json and be fresh; tests
                                of what is beside AMQP are skipped then
BULKHEAD_BUS_COMMAND            start this instead of the `stack` executable; `{topology}`,
                                `{certificate}` and `{ready}` stand for the topology file, the
                                certificate's folder and the ready file
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
from azure.servicebus import ServiceBusClient
from azure.servicebus.management import ServiceBusAdministrationClient

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
        " --tls-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --certificate {certificate}"
        " --topology {topology} --ready-file {ready}"
    )


def wait_for_ready(process, ready, log):
    """What the ready file says, once the broker has written all of it."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the broker exited with {process.returncode}: {log.read_text()}")
        try:
            return json.loads(ready.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.02)
    raise RuntimeError(f"the broker was not ready in {START_SECONDS_MAX} s: {log.read_text()}")


def connection_string_for(address, name="RootManageSharedAccessKey", key="SAS_KEY_VALUE"):
    return (
        f"Endpoint=sb://{address};SharedAccessKeyName={name};SharedAccessKey={key};"
        "UseDevelopmentEmulator=true;"
    )


@contextlib.contextmanager
def running(directory, template, topology=TOPOLOGY):
    """A broker of its own, and the process; killed when the test does not end it."""
    ready, log = directory / "ready.json", directory / "bus.log"
    ready.unlink(missing_ok=True)
    places = {"topology": topology, "ready": ready, "certificate": directory / "certificate"}
    command = [part.format(**places) for part in shlex.split(template)]
    with log.open("a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        said = wait_for_ready(process, ready, log)
        yield {"connectionString": connection_string_for(said["address"]), **said}, process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="session")
def ready(tmp_path_factory):
    """What the broker says of itself: its addresses, and the certificate to trust."""
    given = os.environ.get("BULKHEAD_BUS_CONNECTION_STRING")
    if given:
        yield {"connectionString": given}
        return
    template = os.environ.get("BULKHEAD_BUS_COMMAND") or default_command()
    with running(tmp_path_factory.mktemp("bus"), template) as (said, _):
        yield said


@pytest.fixture(scope="session")
def connection_string(ready):
    return ready["connectionString"]


@pytest.fixture(scope="session")
def authority(ready):
    """The certificate that clients trust."""
    if "certificateAuthority" not in ready:
        pytest.skip("the broker says nothing of a certificate")
    return ready["certificateAuthority"]


@pytest.fixture(scope="session")
def admin(ready, authority):
    """An administration client, unmodified, within TLS."""
    text = connection_string_for(ready["adminAddress"])
    with ServiceBusAdministrationClient.from_connection_string(
        text, connection_verify=authority
    ) as admin:
        yield admin


@pytest.fixture
def name(request):
    """An entity of the test's own, which it creates: its name, made unique."""
    return f"{request.node.originalname.removeprefix('test_')[:40]}-{uuid.uuid4().hex[:8]}"


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
