"""Packages are what `cargo stack stage` lays out, the same bytes every time, or are not made.

The handler is a stand-in of the right form: what is tested is the package. Where this machine has a
release build, that one is packaged as well.
"""

import hashlib
import json
import os
import pathlib
import stat
import zipfile

import pytest
from conftest import APPS, ROOT, TARGET, TOPOLOGY, elf, run, stack

RELEASE = TARGET / "x86_64-unknown-linux-musl" / "release" / "handler"


def folder_of(name):
    return next(app for app in TOPOLOGY["apps"] if app["name"] == name)


def package(handler, out, *apps):
    return stack("package", "--handler", handler, "--out", out, *apps)


def files(folder):
    return {
        str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()
    }


def test_every_zip_holds_what_is_staged_and_nothing_else(build, tmp_path):
    out = tmp_path / "packages"
    made = package(build, out)
    assert made.returncode == 0, made.stderr
    assert sorted(path.name for path in out.glob("*.zip")) == sorted(f"{app}.zip" for app in APPS)
    for app in APPS:
        expected = {"handler": (build, 0o755), "host.json": (ROOT / "host.json", 0o644)}
        for function in folder_of(app)["functions"]:
            source = ROOT / "functions" / folder_of(app)["folder"] / function / "function.json"
            expected[f"{function}/function.json"] = (source, 0o644)
        with zipfile.ZipFile(out / f"{app}.zip") as archive:
            entries = archive.infolist()
            assert archive.testzip() is None
            assert [entry.filename for entry in entries] == sorted(expected), app
            for entry in entries:
                source, mode = expected[entry.filename]
                content = source.read_bytes()
                assert archive.read(entry) == content, entry.filename
                assert entry.file_size == len(content)
                assert entry.external_attr >> 16 == stat.S_IFREG | mode, entry.filename
                assert entry.create_system == 3, "modes count for Unix only"
                assert entry.date_time == (1980, 1, 1, 0, 0, 0) and not entry.extra
        staged = files(out / app)
        assert sorted(staged) == sorted(expected)
        for name, path in staged.items():
            assert path.read_bytes() == expected[name][0].read_bytes(), name
        assert os.access(staged["handler"], os.X_OK)


def test_stage_lays_out_the_same_files(build, tmp_path):
    """The packages are laid out by the code behind `cargo stack stage`; here is the proof."""
    if not (TARGET / "debug" / "handler").is_file():
        pytest.skip("needs target/debug/handler: cargo build --bin handler")
    out = tmp_path / "packages"
    assert package(build, out).returncode == 0
    staged = stack("stage")
    assert staged.returncode == 0, staged.stderr
    for line in staged.stdout.splitlines():
        folder = pathlib.Path(line)
        with zipfile.ZipFile(out / f"{folder.name}.zip") as archive:
            for entry in archive.infolist():
                laid = folder / entry.filename
                assert stat.S_IMODE(laid.stat().st_mode) == entry.external_attr >> 16 & 0o777
                if entry.filename != "handler":
                    assert archive.read(entry) == laid.read_bytes()


def test_two_runs_give_the_same_bytes_wherever_and_whenever(build, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert package(build, first).returncode == 0
    # What a desk leaves beside the app, and what an older version had, does not get in.
    (second / "billing" / "gone").mkdir(parents=True)
    (second / "billing" / "gone" / "function.json").write_text("{}", encoding="utf-8")
    (second / "billing" / "local.settings.json").write_text("{}", encoding="utf-8")
    assert package(build, second).returncode == 0
    assert package(build, second).returncode == 0
    for name in files(first):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert sorted(files(first)) == sorted(files(second))


def test_sums_are_those_of_sha256sum(build, tmp_path):
    out = tmp_path / "packages"
    made = package(build, out, "billing", "outbox")
    assert made.returncode == 0, made.stderr
    assert sorted(path.name for path in out.glob("*.zip")) == ["billing.zip", "outbox.zip"]
    for app in ("billing", "outbox"):
        content = (out / f"{app}.zip").read_bytes()
        assert hashlib.sha256(content).hexdigest() in made.stdout
        assert f"{len(content)} bytes" in made.stdout
        assert run("sha256sum", "--check", f"{app}.zip.sha256", cwd=out).returncode == 0


def test_the_bill_of_materials_is_valid_and_names_what_is_linked(build, tmp_path):
    validators = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    out = tmp_path / "packages"
    assert package(build, out, "billing").returncode == 0
    text = (out / "billing.cdx.json").read_text(encoding="utf-8")
    assert validators.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    subject = bill["metadata"]["component"]
    content = (out / "billing.zip").read_bytes()
    assert subject["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]
    components = {component["bom-ref"]: component for component in bill["components"]}
    names = {component["name"] for component in components.values()}
    assert {"functions", "handler", "azure_data_cosmos_driver", "rustls", "tokio"} <= names
    assert not {"stack", "zip", "proptest", "windows-sys"} & names, "not linked into the handler"
    ours = {"functions", "orders", "azure", "handler"}
    for component in components.values():
        has = "hashes" in component
        assert has != (component["name"] in ours), component["name"]
    known = set(components) | {subject["bom-ref"]}
    for edge in bill["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= known


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (elf(machine=183), "not for x86-64"),
        (elf(interpreter=True), "linked dynamically"),
        (elf().replace(b"\x7fELF\x02", b"\x7fELF\x01", 1), "32-bit"),
        (b"#!/bin/sh\nexec true\n", "no executable"),
        (b"MZ" + bytes(200), "cannot run on Azure"),
        (b"", "no executable"),
    ],
)
def test_another_architecture_is_refused_and_nothing_is_written(build, tmp_path, content, why):
    build.write_bytes(content)
    out = tmp_path / "packages"
    made = package(build, out)
    assert made.returncode == 1
    assert why in made.stderr and "scripts/package" in made.stderr, made.stderr
    assert not out.exists()


def test_a_stale_build_is_refused_with_the_file_that_is_newer(build, tmp_path):
    out = tmp_path / "packages"
    source = build.parent / "main.rs"
    later = build.stat().st_mtime + 5
    os.utime(source, (later, later))
    made = package(build, out)
    assert made.returncode == 1 and "older than its sources" in made.stderr
    assert str(source) in made.stderr and not out.exists()
    source.unlink()
    made = package(build, out)
    assert made.returncode == 1 and "older than its sources" in made.stderr
    build.with_suffix(".d").unlink()
    made = package(build, out)
    assert made.returncode == 1 and "unknown what the handler was built from" in made.stderr
    assert not out.exists()


def test_an_unknown_app_is_refused_with_the_names(build, tmp_path):
    made = package(build, tmp_path / "packages", "biling")
    assert made.returncode == 1 and "no app `biling`" in made.stderr
    assert "billing" in made.stderr


def test_what_the_static_build_needs_is_named_before_anything_is_built(program, without, tmp_path):
    few = without("musl-gcc", "cargo", "rustc")["PATH"]
    for says, named in (
        ("", ("cannot build for x86_64-unknown-linux-musl", "rustup target add")),
        (str(tmp_path), ("No C compiler", "musl-gcc", "musl-tools")),
    ):
        own = program("rustc", f"#!/bin/sh\necho {says}\n")["PATH"].split(os.pathsep)[0]
        made = run(ROOT / "scripts" / "package", env={
            "PATH": f"{own}{os.pathsep}{few}", "CC_x86_64_unknown_linux_musl": ""})
        assert made.returncode == 1 and not made.stdout, made.stdout
        for words in named:
            assert words in made.stderr, made.stderr


def test_the_packaged_build_can_send_to_application_insights():
    script = (ROOT / "scripts" / "package").read_text(encoding="utf-8")
    assert "--bin handler" in script and "--features azure-monitor" in script
    assert "--no-default-features" not in script


def test_the_real_thing_where_there_is_one(tmp_path):
    if not RELEASE.is_file():
        pytest.skip("no release build here: ./scripts/package makes one")
    out = tmp_path / "packages"
    made = stack("package", "--out", out, "order-api")
    if "older than its sources" in made.stderr:
        pytest.skip("the release build is older than its sources: ./scripts/package")
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(out / "order-api.zip") as archive:
        handler = archive.read("handler")
    assert handler == RELEASE.read_bytes()
    # It can send to Application Insights.
    assert b"Microsoft.ApplicationInsights." in handler
    # Nothing of the machine that built it.
    assert str(pathlib.Path.home()).encode() + b"/.cargo" not in handler
    assert str(ROOT).encode() not in handler
