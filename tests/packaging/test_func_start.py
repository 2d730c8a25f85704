"""scripts/func-start with a stand-in for `func` that notes where and how it was started."""

import json

import pytest
from conftest import APPS, ROOT, STACK, TARGET, TOPOLOGY, run, stack

FUNC_START = ROOT / "scripts" / "func-start"
FUNC = """#!/usr/bin/env python3
import json, os, pathlib, sys
app = pathlib.Path.cwd()
note = {"arguments": sys.argv[1:], "app": app.name, "files": sorted(
    str(p.relative_to(app)) for p in app.rglob("*") if p.is_file()),
    "settings": json.loads((app / "local.settings.json").read_text())}
pathlib.Path(os.environ["NOTES"], app.name + ".json").write_text(json.dumps(note))
"""
# Nothing is built: the executables are there already, or the test is skipped.
CARGO = "#!/bin/sh\nexit 0\n"

needs_handler = pytest.mark.skipif(
    not (TARGET / "debug" / "handler").is_file(),
    reason="needs target/debug/handler: cargo build --bin handler",
)


@pytest.fixture
def start(program, tmp_path):
    def start(*arguments, func=True, **settings):
        environment = program("cargo", CARGO)
        if func:
            environment = program("func", FUNC)
        further = {"NOTES": str(tmp_path), "CARGO_TARGET_DIR": str(TARGET), **settings}
        return run(FUNC_START, *arguments, env={**environment, **further})

    return start


def notes(tmp_path):
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")}


@needs_handler
def test_an_app_is_staged_with_its_settings_and_started_where_it_lies(start, tmp_path):
    done = start("billing", "--services", "none")
    assert done.returncode == 0, done.stderr
    note = notes(tmp_path)["billing"]
    assert note["arguments"] == ["start", "--port", "7081"]
    assert set(note["files"]) == {"handler", "host.json", "local.settings.json", "charge/function.json"}
    assert note["settings"]["IsEncrypted"] is False
    values = note["settings"]["Values"]
    assert values["FUNCTIONS_WORKER_RUNTIME"] == "custom"
    assert values["OrdersBus"].startswith("Endpoint=sb://127.0.0.1:5672;")
    assert all(isinstance(value, str) for value in values.values())


@needs_handler
def test_a_func_that_fails_is_told_by_the_exit_status(start, program):
    done = start("billing", "--services", "none", **program("func", "#!/bin/sh\nexit 3\n"), func=False)
    assert done.returncode == 1, done.stdout + done.stderr


@needs_handler
def test_all_start_on_ports_of_their_own(start, tmp_path):
    done = start("all", "--services", "none")
    assert done.returncode == 0, done.stderr
    started = notes(tmp_path)
    # Without blobs on this machine app outbox is left out, and said to be.
    left_out = {"outbox"} if "It is left out" in done.stderr else set()
    assert set(started) == set(APPS) - left_out
    ports = [note["arguments"][-1] for note in started.values()]
    assert len(set(ports)) == len(ports) and "7071" in ports
    assert started[APPS[0]]["arguments"][-1] == "7071"
    assert not {"8081", "5672", "10001", "7075", "6500"} & set(ports)


def test_the_settings_are_those_of_the_example():
    made = json.loads(stack("settings", "--set", "LOG_FORMAT=json").stdout)["Values"]
    example = (ROOT / "local.settings.json.example").read_text(encoding="utf-8")
    lines = [line for line in example.splitlines() if not line.strip().startswith("//")]
    expected = json.loads("\n".join(lines))["Values"]
    assert {**expected, "LOG_FORMAT": "json"}.items() <= made.items()
    further = set(made) - set(expected)
    assert further == {
        "AzureFunctionsJobHost__extensions__cosmosDB__connectionMode", "COSMOS_DISABLE_IMDS",
    }


def test_what_is_missing_is_said_all_at_once(start, without):
    path = without("func", "docker")["PATH"]
    done = run(FUNC_START, "all", "--services", "emulators", env={
        "PATH": path, "ACCEPT_EULA": "", "EMULATOR_SQL_PASSWORD": "",
    })
    assert done.returncode == 1
    for named in ("func: Azure Functions Core Tools", "npm install", "docker", "--services local",
                  "ACCEPT_EULA=Y", "EMULATOR_SQL_PASSWORD"):
        assert named in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["biling", "--services", "none"], "no app `biling`; there are: order-api"),
        (["billing", "--services", "cloud"], "local, emulators or none"),
        ([], "scripts/func-start <app>|all"),
        (["billing", "outbox"], "scripts/func-start <app>|all"),
    ],
)
def test_wrong_arguments_are_named(start, arguments, named):
    done = start(*arguments)
    assert done.returncode != 0 and named in done.stderr, done.stderr


def test_the_bus_emulator_gets_what_the_topology_says():
    made = stack("emulators")
    committed = (ROOT / "infra/emulators/service-bus.json").read_text(encoding="utf-8")
    assert made.stdout == committed, "cargo stack emulators > infra/emulators/service-bus.json"
    config = json.loads(committed)["UserConfig"]["Namespaces"][0]
    assert config["Name"] == "sbemulatorns"
    declared = TOPOLOGY["serviceBus"]["topics"]
    for topic, said in zip(config["Topics"], declared, strict=True):
        assert topic["Name"] == said["name"]
        for one, other in zip(topic["Subscriptions"], said["subscriptions"], strict=True):
            assert one["Name"] == other["name"]
            assert one["Properties"]["MaxDeliveryCount"] == other["maxDeliveryCount"]
            assert [rule["Properties"]["SqlFilter"]["SqlExpression"] for rule in one["Rules"]] == [
                rule["sqlExpression"] for rule in other["rules"]
            ]
    assert STACK.is_file()
