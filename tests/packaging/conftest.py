"""What the tests of packaging and deployment share."""

import json
import os
import pathlib
import shutil
import stat
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
STACK = TARGET / "debug" / "stack"
TOPOLOGY = json.loads((ROOT / "infra" / "topology.json").read_text(encoding="utf-8"))
APPS = [app["name"] for app in TOPOLOGY["apps"]]

# Seconds that a script may take: a machine that is busy with a build is slow.
SCRIPT_SECONDS = 300


def run(*command, env=None, cwd=ROOT, **further):
    """Runs a command to its end; output is text."""
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=SCRIPT_SECONDS, check=False, **further,
    )


def stack(*arguments, **further):
    """Runs `cargo stack …` without cargo."""
    assert STACK.is_file(), f"{STACK} is missing: cargo build --bin stack"
    return run(STACK, *arguments, **further)


def elf(machine=62, interpreter=False):
    """A 64-bit Linux executable of the right form with one segment; it does nothing."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 3 if interpreter else 1, 5, 0, 0, 0, 0, 0, 0)
    # Compressible and not, as a real one is.
    return header + segment + bytes(range(256)) * 64


@pytest.fixture
def build(tmp_path):
    """A build of the handler: the executable, its list of sources, and a source."""
    folder = tmp_path / "build"
    folder.mkdir()
    source, handler = folder / "main.rs", folder / "handler"
    source.write_text("fn main() {}\n", encoding="utf-8")
    handler.write_bytes(elf())
    handler.with_suffix(".d").write_text(f"{handler}: {source}\n", encoding="utf-8")
    os.utime(source, (1_000_000_000, 1_000_000_000))
    return handler


@pytest.fixture
def program(tmp_path):
    """Puts a program of one's own before all others: program(name, script) → environment."""
    folder = tmp_path / "bin"

    def put(name, script):
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(script, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    return put


@pytest.fixture
def without(tmp_path):
    """An environment without some programs: without(name, …) → environment."""

    def hide(*names):
        folder = tmp_path / "few"
        folder.mkdir()
        for part in reversed(os.environ["PATH"].split(os.pathsep)):
            if not os.path.isdir(part):
                continue
            for entry in os.listdir(part):
                link = folder / entry
                if entry not in names:
                    link.unlink(missing_ok=True)
                    link.symlink_to(pathlib.Path(part) / entry)
        assert all(shutil.which(name, path=str(folder)) is None for name in names)
        return {"PATH": str(folder)}

    return hide
