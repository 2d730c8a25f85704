"""Workflows, pipelines and azure.yaml: their schemas, and what we hold them to besides."""

import os
import re
import stat
import sys

import pytest
import yaml
from conftest import APPS, ROOT, run

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = ("package", "deploy", "smoke", "teardown", "func-start", "runner-vm",
           "verify-network", "check-deploy")


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def tool(name):
    return os.path.join(os.path.dirname(sys.executable), name)


def test_workflows_follow_their_schema_and_every_job_ends():
    assert WORKFLOWS
    for schema in ("vendor.github-workflows", "custom.github-workflows-require-timeout"):
        done = run(tool("check-jsonschema"), "--builtin-schema", schema, *WORKFLOWS)
        assert done.returncode == 0, done.stdout


def test_the_azure_pipeline_follows_its_schema():
    # The schema's patterns are written for the older dialect of regular expressions.
    done = run(tool("check-jsonschema"), "--regex-variant", "nonunicode", "--builtin-schema",
               "vendor.azure-pipelines", "--data-transform", "azure-pipelines",
               ROOT / "azure-pipelines.yml")
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_emulators_follow_the_compose_schema_and_bind_to_this_machine():
    path = ROOT / "infra/emulators/compose.yaml"
    done = run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path)
    assert done.returncode == 0, done.stdout
    for name, service in load(path)["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"


def test_zizmor_finds_nothing():
    done = run(tool("zizmor"), "--offline", "--no-progress", "--min-severity", "medium",
               ROOT / ".github" / "workflows")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_rights_are_few(path):
    text = path.read_text(encoding="utf-8")
    for used, comment in re.findall(r"uses: *(\S+)(.*)", text):
        if used.startswith("./"):
            assert (ROOT / used).is_file(), used
        else:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", used), f"{used} is not pinned"
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{used} does not say its version"
    workflow = load(path)
    assert workflow["permissions"] == {}, "rights belong to jobs"
    for name, job in workflow["jobs"].items():
        rights = job["permissions"]
        assert set(rights) <= {"contents", "id-token", "attestations"}, name
        assert rights["contents"] == "read", name
        # A token for Azure or for signing is only for what lands on main.
        if rights.get("id-token"):
            assert "pull_request" not in workflow.get(True, {}), name
    assert "secrets." not in text and "github.event." not in text.split("jobs:")[1]
    assert "pull_request_target" not in text


def test_main_goes_through_every_gate_in_order():
    jobs = load(ROOT / ".github/workflows/deploy.yml")["jobs"]
    chain = ["check", "package", "attest", "dev", "prod-what-if", "prod"]
    assert list(jobs) == chain
    for before, job in zip(chain, chain[1:]):
        assert jobs[job]["needs"] == before
    assert jobs["attest"]["strategy"]["matrix"]["app"] == APPS
    for name in ("dev", "prod"):
        assert jobs[name]["with"]["environment"] == name
    steps = load(ROOT / ".github/workflows/environment.yml")["jobs"]["deploy"]["steps"]
    does = " ".join(step.get("run", "") + step.get("uses", "") for step in steps)
    order = ["gh attestation verify", "azure/login@", "scripts/deploy --environment", "scripts/smoke"]
    assert sorted(order, key=does.index) == order
    pipeline = (ROOT / "azure-pipelines.yml").read_text(encoding="utf-8")
    for said in ("./scripts/check", "./scripts/package", "--what-if", "--yes", "./scripts/smoke"):
        assert said in pipeline


def test_azd_deploys_the_zips_of_every_app():
    azd = load(ROOT / "azure.yaml")
    # What the schema that the file names asks of a function and of a name:
    # https://github.com/Azure/azure-dev/blob/main/schemas/v1.0/azure.yaml.json
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", azd["name"])
    assert re.fullmatch(r"[a-z0-9.]+", azd["infra"]["provider"])
    assert (ROOT / azd["infra"]["path"] / f"{azd['infra']['module']}.bicep").is_file()
    for service in azd["services"].values():
        assert {"host", "project"} <= set(service)
        assert not {"image", "docker", "k8s", "apiVersion", "env"} & set(service)
    assert set(azd) <= {"name", "infra", "services", "hooks", "workflows"}
    assert list(azd["services"]) == APPS
    for name, service in azd["services"].items():
        # azd's schema wants `project` for a function, and its code `dist` for language custom.
        assert service == {
            "host": "function", "language": "custom", "project": ".",
            "dist": f"target/packages/{name}",
        }
    steps = [step["azd"] for step in azd["workflows"]["up"]["steps"]]
    assert steps == ["provision"] + [
        f"deploy {app} --from-package target/packages/{app}.zip" for app in APPS
    ]
    assert set(azd["infra"]) == {"provider", "path", "module"}
    for hook in ("preprovision", "prepackage"):
        assert hook in azd["hooks"] and len(azd["hooks"]) == 2
        assert azd["hooks"][hook] == {"shell": "sh", "run": "./scripts/package --out target/packages"}


def test_every_script_is_executable_and_says_what_it_does():
    for name in SCRIPTS:
        path = ROOT / "scripts" / name
        assert path.stat().st_mode & stat.S_IXUSR, name
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("#!/usr/bin/env "), name
        assert lines[1].startswith(("# ", '"""')), name
