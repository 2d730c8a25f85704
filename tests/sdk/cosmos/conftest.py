"""Fixtures for the official Cosmos DB SDK against the local service.

The service is taken from BULKHEAD_COSMOS_ENDPOINT (and BULKHEAD_COSMOS_KEY), or started here with
BULKHEAD_COSMOS_COMMAND, in which {topology} and {ready} are replaced. BULKHEAD_COSMOS_RANGES cuts
every container into that many partition key ranges; the tests hold with one and with several.
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
from azure.cosmos import CosmosClient, PartitionKey

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
# Published by Microsoft for all emulators, hence no secret.
EMULATOR_KEY = (
    "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
)
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
COMMAND = (
    f"{shlex.quote(str(TARGET / 'debug' / 'stack'))} serve cosmos --listen 127.0.0.1:0"
    " --topology {topology} --ready-file {ready}"
)
START_DEADLINE_SECONDS = 30
RANGES = int(os.environ.get("BULKHEAD_COSMOS_RANGES", "1"))


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
def served(folder, *options):
    """Endpoint of a service that was started with these further options."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    template = os.environ.get("BULKHEAD_COSMOS_COMMAND", COMMAND)
    command = template.format(topology=HERE / "topology.json", ready=ready)
    if "--ranges" not in options:
        options = (*options, "--ranges", str(RANGES))
    process = subprocess.Popen([*shlex.split(command), *options], cwd=REPOSITORY)
    try:
        def started():
            assert process.poll() is None, f"the service ended with {process.returncode}"
            return ready.exists()

        wait_for(started, START_DEADLINE_SECONDS, "start of the service")
        yield f"http://{json.loads(ready.read_text())['address']}"
    finally:
        process.kill()
        process.wait(timeout=10)


@pytest.fixture(scope="session")
def account(tmp_path_factory):
    """Endpoint and key of the service."""
    key = os.environ.get("BULKHEAD_COSMOS_KEY", EMULATOR_KEY)
    endpoint = os.environ.get("BULKHEAD_COSMOS_ENDPOINT")
    if endpoint:
        yield endpoint, key
        return
    with served(tmp_path_factory.mktemp("cosmos")) as endpoint:
        yield endpoint, key


@pytest.fixture(scope="session")
def client(account):
    with CosmosClient(*account) as client:
        yield client


@pytest.fixture(scope="session")
def database(client):
    """The declared database."""
    return client.get_database_client("sdk")


@pytest.fixture
def items(database):
    """The declared container; tests keep apart by partition."""
    return database.get_container_client("items")


@pytest.fixture
def pk():
    """A partition of the test's own."""
    return f"pk-{uuid.uuid4()}"


@pytest.fixture
def container(database):
    """A container of the test's own, with time to live switched on."""
    name = f"own-{uuid.uuid4()}"
    yield database.create_container(name, PartitionKey(path="/pk"), default_ttl=-1)
    database.delete_container(name)
