//! The project's own clients against the local services, each service a process by itself.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{binary, eventually};

/// One service of the stack by itself; stops when dropped.
struct Service {
    process: Child,
    address: String,
}

impl Service {
    async fn start(role: &str) -> Self {
        let ready = std::env::temp_dir().join(format!("bulkhead-{}.json", uuid::Uuid::new_v4()));
        let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/topology.json");
        let further: &[&str] = if role == "bus" { &["--ephemeral"] } else { &[] };
        let process = Command::new(binary("stack"))
            .args(["serve", role])
            .args(further)
            .args(["--until-stdin-closes", "--topology", topology, "--ready-file"])
            .arg(&ready)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let text =
            eventually("the service is ready", || async { std::fs::read_to_string(&ready).ok() })
                .await;
        std::fs::remove_file(ready).unwrap();
        let ready: Value = serde_json::from_str(&text).unwrap();
        Self { process, address: ready["address"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn everything_that_the_clients_can_do_holds_against_the_local_services() {
    let (cosmos, bus) = tokio::join!(Service::start("cosmos"), Service::start("bus"));
    let cosmos = format!(
        "AccountEndpoint=http://{}/;AccountKey={};",
        cosmos.address,
        stack::serve::COSMOS_KEY
    );
    let bus = format!(
        "Endpoint=sb://{};SharedAccessKeyName={};SharedAccessKey={};UseDevelopmentEmulator=true;",
        bus.address,
        stack::serve::BUS_KEY_NAME,
        stack::serve::BUS_KEY
    );
    let probe = Command::new(binary("examples/probe"))
        .args(["--cosmos", &cosmos, "--container", "bulkhead/orders/orderId"])
        .args(["--bus", &bus, "--topic", "orders", "--subscription", "inventory-sub"])
        .args(["--property", "event_type=order.created"])
        .env("COSMOS_DISABLE_IMDS", "1")
        .output()
        .unwrap();
    let held = String::from_utf8_lossy(&probe.stdout);
    let failed = String::from_utf8_lossy(&probe.stderr);
    assert!(probe.status.success(), "{held}\n{failed}");
    assert!(held.lines().filter(|line| line.starts_with("ok")).count() > 20, "{held}");
}
