"""The official Rust SDK as a client: see tests/sdk/queue-rust."""

import os
import pathlib
import subprocess
from datetime import UTC, datetime, timedelta

from azure.storage.queue import AccountSasPermissions, ResourceTypes, generate_account_sas

from conftest import ACCOUNT, KEY, TARGET

MANIFEST = pathlib.Path(__file__).resolve().parent.parent / "queue-rust/Cargo.toml"
SECONDS_MAX = 900


def test_the_rust_sdk_goes_through_the_life_of_a_queue(service, name):
    signature = generate_account_sas(
        ACCOUNT,
        KEY,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions.from_string("rwdlacup"),
        datetime.now(UTC) + timedelta(hours=1),
    )
    url = f"{service.url.rstrip('/')}/{name}?{signature}"
    command = ["cargo", "run", "--quiet", "--locked", "--manifest-path", str(MANIFEST), "--", url]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET / "queue-rust")}
    done = subprocess.run(command, env=environment, timeout=SECONDS_MAX, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
