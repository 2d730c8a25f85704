"""Starts the whole stack, processes and all, on free ports; everything is gone afterwards."""

import json
import os
import pathlib
import subprocess
import time
import urllib.request

import pytest

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20
PORTS = ("--port", "--cosmos-port", "--bus-port", "--queue-port", "--bank-port")


def wait_for(condition, what, deadline_seconds=30):
    """Polls until `condition` returns something true, and returns it."""
    end = time.monotonic() + deadline_seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {deadline_seconds} s")


class Stack:
    """A running stack."""

    def __init__(self, endpoints, points):
        self.url = endpoints["http"]
        self.cosmos = endpoints["cosmos"]
        self.cosmos_key = endpoints["cosmosKey"]
        self._points = points

    def request(self, method, path, body=None):
        """The JSON of a request that must succeed."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def submit(self, sku="vitamin-c", quantity=1, faults=None):
        """Submits an order that must be accepted; its id."""
        body = {
            "customerId": "c-contract",
            "currency": "EUR",
            "items": [{"sku": sku, "quantity": quantity}],
        }
        if faults:
            body["faults"] = faults
        return self.request("POST", "/api/orders", body)["orderId"]

    def until(self, order_id, what, wanted):
        """Waits until the order is as wanted; the order then."""

        def order():
            found = self.request("GET", f"/api/orders/{order_id}")
            return found if wanted(found) else None

        return wait_for(order, f"order {order_id} is {what}")

    def arm(self, point, action):
        """Arms a crash point for one use; see functions/crash.rs."""
        beside = self._points.parent / point
        beside.write_text(action)
        beside.rename(self._points / point)


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stack")
    ready, log, points = directory / "ready.json", directory / "log", directory / "points"
    points.mkdir()
    command = [TARGET / "debug" / "stack", "up", "--no-build", "--until-stdin-closes"]
    command += [word for port in PORTS for word in (port, "0")]
    command += ["--set", f"CRASH_POINTS={points}", "--verbose"]
    command += ["--apps-dir", directory / "apps", "--ready-file", ready]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=output, stderr=output
        )
    try:

        def started():
            assert process.poll() is None, f"the stack ended: {log.read_text()}"
            try:
                return json.loads(ready.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                return None

        yield Stack(wait_for(started, "the stack is up", START_SECONDS_MAX), points)
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
