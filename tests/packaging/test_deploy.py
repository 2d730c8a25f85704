"""scripts/deploy and scripts/teardown against a stand-in for `az` that records what it is asked.

Proven: what is asked for, in which order, with which arguments; that nothing is asked for where the
input is wrong; that a second run asks for nothing that changes anything. Not proven: that Azure takes
it. That takes a subscription.
"""

import hashlib
import json
import shutil

import pytest
from conftest import APPS, ROOT, run

DEPLOY = ROOT / "scripts" / "deploy"
TEARDOWN = ROOT / "scripts" / "teardown"
RUNNER = ROOT / "scripts" / "runner-vm"

SETTINGS = {
    "AZURE_LOCATION": "westeurope",
    "BANK_URL": "https://bank.example",
    "API_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
    "ALERT_EMAIL": "ops@bank.example",
    "BUDGET_START": "2026-12-01",
}

PARAMETERS = "".join(
    f"param p{number} = readEnvironmentVariable('{name}', '')\n"
    for number, name in enumerate(sorted(set(SETTINGS) - {"AZURE_LOCATION"}))
) + "// readEnvironmentVariable('COMMENTED', '')\nparam d = readEnvironmentVariable('DEFAULTED', 'x')\n"

OUTPUTS = {
    "resourceGroupName": {"type": "String", "value": "rg-bulkhead-dev"},
    "apiUrl": {"type": "String", "value": "https://api.example"},
    "packageAccount": {"type": "String", "value": "hostaccount"},
    "apps": {
        "type": "Array",
        "value": [
            {"app": app, "id": f"/sites/{app}", "name": f"func-{app}", "packageContainer": f"package-{app}"}
            for app in APPS
        ],
    },
}

CREATE = [{"changeType": "Create", "resourceId": "/subscriptions/0/resourceGroups/rg-bulkhead-dev"}]
NOTHING = [{"changeType": "NoChange", "resourceId": "/a"}, {"changeType": "Ignore", "resourceId": "/b"}]

# What only looks.
HARMLESS = (
    "account show", "deployment sub what-if", "deployment sub show", "deployment sub list",
    "storage blob download", "group exists", "network vnet peering list", "vm list",
    "vm run-command list", "resource list",
)


class Azure:
    def __init__(self, folder):
        self.folder = folder
        self.answer({"deployment sub what-if": {"changes": CREATE}})

    def answer(self, further):
        answers = {
            "account show": "Pay as you go\t0000", "deployment sub show": OUTPUTS, **further,
        }
        (self.folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")

    def calls(self):
        path = self.folder / "calls.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        path.unlink()
        return [json.loads(line) for line in lines]

    def changes(self):
        return [call for call in self.calls() if not " ".join(call).startswith(HARMLESS)]


@pytest.fixture
def azure(tmp_path):
    return Azure(tmp_path)


@pytest.fixture
def deploy(azure, program, tmp_path):
    environment = program("az", (ROOT / "tests/packaging/az").read_text(encoding="utf-8"))
    packages, parameters = tmp_path / "packages", tmp_path / "dev.bicepparam"
    packages.mkdir()
    parameters.write_text(PARAMETERS, encoding="utf-8")
    for app in APPS:
        content = f"package of {app}".encode()
        (packages / f"{app}.zip").write_bytes(content)
        sum_of = hashlib.sha256(content).hexdigest()
        (packages / f"{app}.zip.sha256").write_text(f"{sum_of}  {app}.zip\n", encoding="utf-8")

    def start(*arguments, script=DEPLOY, unset=(), **settings):
        environment_of_run = {
            **environment, **SETTINGS, "FAKE_AZ": str(tmp_path),
            "CARGO_TARGET_DIR": str(tmp_path / "target"), **settings,
        }
        for name in unset:
            environment_of_run[name] = ""
        return run(script, *arguments, env=environment_of_run)

    start.packages, start.parameters = packages, parameters
    return start


def common(deploy):
    return ("--environment", "dev", "--parameters", deploy.parameters, "--packages", deploy.packages)


def test_what_if_comes_first_then_the_template_then_each_package(azure, deploy):
    done = deploy(*common(deploy), "--yes")
    assert done.returncode == 0, done.stderr
    calls = [" ".join(call) for call in azure.calls()]
    order = [
        next(i for i, call in enumerate(calls) if call.startswith(command))
        for command in ("account show", "deployment sub what-if", "deployment sub create",
                        "deployment sub show", "functionapp deployment source config-zip")
    ]
    assert order == sorted(order)
    zips = [call for call in calls if "config-zip" in call]
    assert len(zips) == len(APPS)
    for app, call in zip(APPS, zips):
        assert f"--resource-group rg-bulkhead-dev --name func-{app} --src" in call
        assert call.endswith(f"{app}.zip --output none")
    assert "https://api.example" in done.stdout


def test_a_second_run_changes_nothing(azure, deploy):
    assert deploy(*common(deploy), "--yes").returncode == 0
    assert len(azure.changes()) == 1 + len(APPS)
    azure.answer({"deployment sub what-if": {"changes": NOTHING}})
    again = deploy(*common(deploy), "--yes")
    assert again.returncode == 0, again.stderr
    assert azure.changes() == []
    assert again.stdout.count("is there already") == len(APPS)
    # One package is new: that one goes out, and nothing else.
    content = b"another"
    (deploy.packages / "billing.zip").write_bytes(content)
    sum_of = hashlib.sha256(content).hexdigest()
    (deploy.packages / "billing.zip.sha256").write_text(f"{sum_of}  billing.zip\n", encoding="utf-8")
    assert deploy(*common(deploy), "--yes").returncode == 0
    assert [call[call.index("--name") + 1] for call in azure.changes()] == ["func-billing"]


def test_what_if_alone_changes_nothing_and_needs_no_packages(azure, deploy):
    shutil.rmtree(deploy.packages)
    done = deploy("--environment", "dev", "--parameters", deploy.parameters, "--what-if")
    assert done.returncode == 0, done.stderr
    assert "what-if: 1 changes" in done.stdout and "Create" in done.stderr
    assert azure.changes() == []


def test_nobody_there_to_ask_means_no(azure, deploy):
    done = deploy(*common(deploy))
    assert done.returncode == 1 and "--yes" in done.stderr
    assert azure.changes() == []


def test_what_azure_cannot_foresee_is_deployed(azure, deploy):
    changes = [{"changeType": "Unsupported", "resourceId": "/x"}]
    azure.answer({"deployment sub what-if": {"changes": changes}})
    assert deploy(*common(deploy), "--yes", "--infra-only").returncode == 0
    assert [call[:3] for call in azure.changes()] == [["deployment", "sub", "create"]]


def test_apps_of_a_system_that_terraform_made(azure, deploy, tmp_path):
    snake = {"resourceGroupName": "resource_group_name", "apiUrl": "api_url",
             "packageAccount": "package_account", "apps": "apps"}
    outputs = tmp_path / "terraform.json"
    made = {name: {"sensitive": False, **OUTPUTS[of]} for of, name in snake.items()}
    outputs.write_text(json.dumps(made), encoding="utf-8")
    done = deploy("--environment", "dev", "--apps-only", "--outputs", outputs,
                  "--packages", deploy.packages, unset=SETTINGS)
    assert done.returncode == 0, done.stderr
    assert len(azure.changes()) == len(APPS)
    del made["package_account"]
    outputs.write_text(json.dumps(made), encoding="utf-8")
    done = deploy("--environment", "dev", "--apps-only", "--outputs", outputs,
                  "--packages", deploy.packages)
    assert done.returncode != 0 and "packageAccount" in done.stderr
    assert azure.changes() == []


@pytest.mark.parametrize(
    ("arguments", "unset", "named"),
    [
        ([], [], "--environment must be"),
        (["--environment", "Dev"], [], "`Dev`"),
        (["--environment", "a-b"], [], "`a-b`"),
        (["--environment"], [], "--environment needs a value"),
        (["--environment", "--yes"], [], "--environment needs a value"),
        (["--environment", "nowhere"], [], "nowhere.bicepparam cannot be read"),
        (["COMMON", "--what-if", "--yes"], [], "--what-if changes nothing"),
        (["COMMON", "--infra-only", "--apps-only"], [], "exclude each other"),
        (["COMMON", "--outputs", "/etc/hostname"], [], "--outputs goes with --apps-only"),
        (["COMMON", "--apps-only", "--what-if"], [], "--apps-only leaves alone"),
        (["COMMON", "--yes", "--forse"], [], "no option --forse"),
        (["COMMON", "--yes"], ["BANK_URL"], "BANK_URL is not set"),
        (["COMMON", "--yes"], ["AZURE_LOCATION"], "AZURE_LOCATION is not set"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_asked_of_azure(azure, deploy, arguments, unset, named):
    if arguments[:1] == ["COMMON"]:
        arguments = [*common(deploy), *arguments[1:]]
    done = deploy(*arguments, unset=unset)
    assert done.returncode != 0
    assert named in done.stderr, done.stderr
    assert azure.calls() == []


def test_every_problem_is_named_at_once(azure, deploy):
    (deploy.packages / "billing.zip").write_bytes(b"tampered with")
    (deploy.packages / "outbox.zip.sha256").unlink()
    done = deploy(*common(deploy), "--yes", unset=["BANK_URL", "ALERT_EMAIL"])
    assert done.returncode == 1
    for named in ("BANK_URL", "ALERT_EMAIL", "billing.zip is not the file", "outbox.zip"):
        assert named in done.stderr, done.stderr
    assert "COMMENTED" not in done.stderr and "DEFAULTED" not in done.stderr
    assert azure.calls() == []


@pytest.mark.parametrize("command", ["account show", "deployment sub what-if", "deployment sub create"])
def test_what_fails_stops_everything_after_it(azure, deploy, command):
    azure.answer({"deployment sub what-if": {"changes": CREATE}, "fail": [command]})
    done = deploy(*common(deploy), "--yes")
    assert done.returncode != 0 and done.stderr
    later = [" ".join(call) for call in azure.calls()]
    assert not any("config-zip" in call for call in later)
    if command != "deployment sub create":
        assert not any("sub create" in call for call in later)


def test_a_package_that_does_not_arrive_says_where_to_run_this(azure, deploy):
    azure.answer({"deployment sub what-if": {"changes": NOTHING},
                  "fail": ["functionapp deployment source config-zip"]})
    done = deploy(*common(deploy), "--yes")
    assert done.returncode == 1
    assert f"App {APPS[0]} was not deployed" in done.stderr and "docs/deploying.md" in done.stderr
    assert (ROOT / "docs/deploying.md").is_file()


def test_without_az_it_says_so(azure, deploy, without):
    path = without("az")["PATH"]
    done = deploy(*common(deploy), "--yes", PATH=path)
    assert done.returncode == 1 and "`az` is missing" in done.stderr


HUB = "/subscriptions/0/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/hub"


def test_teardown_deletes_what_is_there_and_then_nothing(azure, deploy):
    azure.answer({"group exists": "true", "network vnet peering list": "/peering",
                  "deployment sub list": "/deployment", "resource list": "/flow-hub\n/flow-spoke"})
    arguments = ("--environment", "dev", "--hub", HUB, "--yes")
    done = deploy(*arguments, script=TEARDOWN)
    assert done.returncode == 0, done.stderr
    # `list` takes no --ids, unlike `delete`.
    calls = [" ".join(call) for call in azure.calls()]
    (listed,) = [call for call in calls if call.startswith("network vnet peering list")]
    names = HUB.split("/")
    assert (f"--subscription {names[2]} --resource-group {names[4]} --vnet-name {names[8]}") in listed
    deleted = [call for call in calls if not call.startswith(HARMLESS)]
    assert deleted == [
        "resource delete --ids /flow-hub /flow-spoke --output none",
        "group delete --name rg-bulkhead-dev --yes --output none",
        f"network vnet peering delete --ids {HUB}/virtualNetworkPeerings/hub-to-bulkhead-dev --output none",
        "deployment sub delete --name bulkhead-dev --output none",
    ]
    azure.answer({"group exists": "false", "network vnet peering list": "", "deployment sub list": "",
                  "resource list": ""})
    again = deploy(*arguments, script=TEARDOWN)
    assert again.returncode == 0 and "not there" in again.stdout
    assert azure.changes() == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--environment must be"),
        (["--environment", "dev"], "--yes does not ask"),
        (["--environment", "dev", "--hub", "hub", "--yes"], "resource id of a virtual network"),
        (["--environment", "dev", "--force"], "no option --force"),
    ],
)
def test_teardown_deletes_nothing_on_wrong_input(azure, deploy, arguments, named):
    azure.answer({"group exists": "true"})
    done = deploy(*arguments, script=TEARDOWN)
    assert done.returncode != 0 and named in done.stderr, done.stderr
    assert azure.changes() == []


def test_the_runner_has_no_public_address_and_its_token_is_protected(azure, deploy, tmp_path):
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAA runner\n", encoding="utf-8")
    arguments = ("--environment", "prod", "--image", "/images/runner", "--ssh-key", key,
                 "--repository", "https://github.com/owner/name")
    done = deploy(*arguments, script=RUNNER, RUNNER_TOKEN="secret-token")
    assert done.returncode == 0, done.stderr
    create, register = azure.changes()
    assert create[:2] == ["vm", "create"] and create[create.index("--public-ip-address") + 1] == ""
    assert create[create.index("--vnet-name") + 1] == "vnet-hub-prod"
    assert "secret-token" not in " ".join(create) + done.stdout + done.stderr
    assert register[register.index("--protected-parameters") + 1] == "TOKEN=secret-token"
    assert " ".join(register).count("secret-token") == 1
    azure.answer({"vm list": "/vm", "vm run-command list": "/register"})
    again = deploy(*arguments, script=RUNNER, RUNNER_TOKEN="secret-token")
    assert again.returncode == 0 and azure.changes() == []
    for unset in ("RUNNER_TOKEN",):
        done = deploy(*arguments, script=RUNNER, unset=[unset])
        assert done.returncode == 1 and unset in done.stderr and azure.calls() == []
    done = deploy("--environment", "prod", "--repository", "http://elsewhere", script=RUNNER)
    for named in ("--image", "--repository", "--ssh-key", "RUNNER_TOKEN"):
        assert named in done.stderr, done.stderr
    assert azure.calls() == []
