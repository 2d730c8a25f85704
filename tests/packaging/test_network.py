"""scripts/verify-network on loopback, and its table in the documentation."""

import http.server
import json
import socket
import threading

import pytest
from conftest import ROOT, run

VERIFY = ROOT / "scripts" / "verify-network"
TABLE = json.loads((ROOT / "infra" / "network-table.json").read_text(encoding="utf-8"))
GUIDE = ROOT / "docs" / "deploying.md"
ANSWERS = {
    "/": (200, b"fine"),
    "/who": (401, b"who are you?"),
    "/network": (403, b"no"),
    "/firewall": (401, b"Ip has been prevented to connect to the endpoint."),
    "/azure-firewall": (470, b"Action: Deny."),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed():
    """A port on which nobody listens, kept so that nobody else gets it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def table(tmp_path, endpoints, expected):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({
        "places": {"here": "this machine"},
        "answers": TABLE["answers"],
        "endpoints": endpoints,
        "postures": {"test": {name: {"here": answer} for name, answer in expected.items()}},
    }), encoding="utf-8")
    return path


def verify(path, *further):
    return run(VERIFY, "--table", path, "--posture", "test", "--place", "here", *further)


def test_each_answer_is_told_apart(tmp_path, service, closed):
    at = {"host": "{host}", "port": service}
    endpoints = {
        "open": {**at, "probe": "http", "path": "/"},
        "asks": {**at, "probe": "http", "path": "/who"},
        "forbidden": {**at, "probe": "http", "path": "/network"},
        "refused in words": {**at, "probe": "http", "path": "/firewall"},
        "firewall": {**at, "probe": "http", "path": "/azure-firewall"},
        "listens": {**at, "probe": "tcp"},
        "closed": {"host": "{host}", "port": closed, "probe": "tcp"},
        "no TLS": {**at, "probe": "tls"},
        "no name": {"host": "nobody.invalid", "port": 443, "probe": "https", "path": "/"},
        "not judged": {"host": "{unknown}", "port": 1, "probe": "tcp"},
    }
    expected = {
        "open": "private", "asks": "private", "forbidden": "deny", "refused in words": "deny",
        "firewall": "deny", "listens": "private", "closed": "deny", "no TLS": "deny",
        "no name": "deny", "not judged": "any",
    }
    path = table(tmp_path, endpoints, expected)
    done = verify(path, "--set", "host=127.0.0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 of 9 as expected" in done.stdout
    for wrong in ("open", "closed"):
        other = {"private": "deny", "deny": "public"}[expected[wrong]]
        done = verify(table(tmp_path, endpoints, {**expected, wrong: other}), "--set", "host=127.0.0.1")
        assert done.returncode == 1 and "8 of 9 as expected" in done.stdout
        lines = [line for line in done.stdout.splitlines() if line.startswith("NO")]
        assert len(lines) == 1 and wrong in lines[0], done.stdout


def test_hosts_come_from_the_outputs_of_either_language(tmp_path):
    outputs = tmp_path / "outputs.json"
    needed = ["apiHost", "apiScmHost", "storeHost", "packageAccount"]
    for said in (
        {"apiUrl": "https://a-b.x-01.azurewebsites.net", "storeEndpoint": "https://s.example:443/",
         "packageAccount": "h"},
        {"api_url": "https://a-b.x-01.azurewebsites.net", "store_endpoint": "https://s.example:443/",
         "package_account": "h"},
    ):
        outputs.write_text(json.dumps({k: {"value": v} for k, v in said.items()}), encoding="utf-8")
        done = run(VERIFY, "--posture", "lockedDown", "--place", "hub", "--outputs", outputs)
        assert done.returncode == 2
        unknown = done.stderr.split("unknown: ")[1].split(";")[0].split(", ")
        assert not set(needed) & set(unknown) and "bankHost" in unknown


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--place", "hub"], "--posture must be one of"),
        (["--posture", "lockedDown", "--place", "moon"], "outside, hub, spoke, app"),
        (["--posture", "default", "--place", "hub"], "--place must be one of: outside"),
        (["--posture", "lockedDown", "--place", "hub", "--set", "x"], "NAME=VALUE"),
        (["--posture", "lockedDown", "--place", "hub", "--outputs", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    done = run(VERIFY, *arguments)
    assert done.returncode == 2 and named in done.stderr, done.stderr


@pytest.mark.parametrize("breakage", ["probe", "row", "answer", "place"])
def test_a_table_that_is_not_whole_is_refused(tmp_path, breakage):
    broken = json.loads(json.dumps(TABLE))
    if breakage == "probe":
        broken["endpoints"]["API"]["probe"] = "ping"
    elif breakage == "row":
        del broken["postures"]["lockedDown"]["API"]
    elif breakage == "answer":
        broken["postures"]["lockedDown"]["API"]["hub"] = "allow"
    else:
        del broken["postures"]["lockedDown"]["API"]["hub"]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(broken), encoding="utf-8")
    done = run(VERIFY, "--table", path, "--render")
    assert done.returncode == 2 and "cannot be used" in done.stderr


def test_the_guide_shows_the_table_that_the_program_runs():
    rendered = run(VERIFY, "--render")
    assert rendered.returncode == 0, rendered.stderr
    begin, end = "<!-- scripts/verify-network --render -->\n", "<!-- end -->"
    shown = GUIDE.read_text(encoding="utf-8").split(begin)[1].split(end)[0]
    assert shown.strip() == rendered.stdout.strip(), "render it again"


def test_what_is_private_is_reached_from_inside_only():
    """What the locked-down posture promises, whoever edits the table."""
    ours = [name for name, endpoint in TABLE["endpoints"].items() if "{" in endpoint["host"]
            and endpoint["host"] != "{bankHost}"]
    for name in ours:
        row = TABLE["postures"]["lockedDown"][name]
        assert row["outside"] in ("deny", "any") and "public" not in row.values(), name
        assert row["spoke"] == "deny", name
