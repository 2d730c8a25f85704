"""scripts/smoke against the real system on the stand-ins, and against systems that fall short."""

import http.server
import json
import subprocess
import threading
import time

import pytest
from conftest import ROOT, SCRIPT_SECONDS, STACK, TARGET, run

SMOKE = ROOT / "scripts" / "smoke"


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """The whole system, on ports that the machine picks; its base address."""
    if not (TARGET / "debug" / "handler").is_file():
        pytest.skip("needs target/debug/handler: cargo build --bin handler")
    folder = tmp_path_factory.mktemp("system")
    ready = folder / "ready.json"
    ports = [f"--{part}port=0" for part in
             ("", "cosmos-", "bus-", "queue-", "bank-", "grid-", "subscriber-")]
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [STACK, "up", "--no-build", "--until-stdin-closes", "--ready-file", ready,
             "--apps-dir", folder / "apps", *ports],
            stdin=subprocess.PIPE, stdout=log, stderr=log,
        )
    try:
        deadline = time.monotonic() + SCRIPT_SECONDS
        while not ready.exists():
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "it is not ready"
            time.sleep(0.05)
        yield json.loads(ready.read_text(encoding="utf-8"))["http"]
    finally:
        process.stdin.close()
        process.wait(timeout=SCRIPT_SECONDS)


def test_an_order_is_placed_and_followed_to_its_end(system):
    done = run(SMOKE, f"{system}/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "smoke test passed" in done.stdout and "completed" in done.stdout


def test_the_same_key_is_the_same_order(system):
    first = run(SMOKE, system, env={"SMOKE_KEY": "the-same"})
    again = run(SMOKE, system, env={"SMOKE_KEY": "the-same"})
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert first.stdout.splitlines()[0] == again.stdout.splitlines()[0]


def test_an_order_that_ends_otherwise_fails_the_test(system, tmp_path):
    order = json.loads((ROOT / "tests/fixtures/order.json").read_text(encoding="utf-8"))
    path = tmp_path / "order.json"
    path.write_text(json.dumps({**order, "faults": {"billing": "decline"}}), encoding="utf-8")
    done = run(SMOKE, system, env={"SMOKE_ORDER": str(path)})
    assert done.returncode == 1 and "The order ended failed" in done.stderr
    path.write_text("{}", encoding="utf-8")
    done = run(SMOKE, system, env={"SMOKE_ORDER": str(path)})
    assert done.returncode == 1 and "refused with 4" in done.stderr
    assert "customerId" in done.stderr, "the answer says what is wrong"


class Short:
    """A system that answers POST and GET with what it is told to, and notes what it is asked."""

    def __init__(self, accept, order):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                asked.append((self.command, dict(self.headers)))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                status, body = accept if self.command == "POST" else order
                self.send_response(status)
                if status == 202:
                    self.send_header("Location", "/api/orders/1")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def short():
    made = []

    def make(accept, order=(200, b"{}")):
        made.append(Short(accept, order))
        return made[-1]

    yield make
    for system in made:
        system.server.shutdown()
        system.server.server_close()


@pytest.mark.parametrize(
    ("accept", "order", "named"),
    [
        ((202, b"{}"), (200, b'{"overall":"accepted"}'), "did not end within 2 s"),
        ((202, b"{}"), (500, b"oops"), "the last answer was 500"),
        ((200, b"{}"), (200, b"{}"), "has no Location"),
        ((401, b"who?"), (200, b"{}"), "SMOKE_TOKEN"),
        ((503, b"later"), (200, b"{}"), "No order was accepted within 2 s"),
    ],
)
def test_what_falls_short_is_said_with_the_answer(short, accept, order, named):
    system = short(accept, order)
    done = run(SMOKE, system.url, env={"SMOKE_WITHIN": "2"})
    assert done.returncode == 1 and named in done.stderr, done.stderr
    keys = {headers["idempotency-key"] for verb, headers in system.asked if verb == "POST"}
    assert len(keys) == 1, "trying again must not place a second order"


def test_the_token_is_sent_and_shown_nowhere(short):
    system = short((202, b"{}"), (200, b'{"overall":"completed"}'))
    done = run(SMOKE, system.url, env={"SMOKE_TOKEN": "secret-token"})
    assert done.returncode == 0, done.stderr
    assert {headers["Authorization"] for _, headers in system.asked} == {"Bearer secret-token"}
    assert "secret-token" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        ([], {}, "scripts/smoke <base url>"),
        (["api.example"], {}, "must begin with https://"),
        (["http://api.example"], {"SMOKE_TOKEN": "x"}, "https only"),
        (["http://127.0.0.1:1"], {"SMOKE_WITHIN": "soon"}, "`soon`"),
        (["http://127.0.0.1:1"], {"SMOKE_ORDER": "/nowhere"}, "/nowhere cannot be read"),
    ],
)
def test_wrong_input_is_named(arguments, settings, named):
    done = run(SMOKE, *arguments, env=settings)
    assert done.returncode != 0 and named in done.stderr, done.stderr
