//! The Service Bus stand-in as a process that is killed: what it was told survives, whatever
//! happens to it and to its files.

mod client;
mod damage;
mod full;
mod idle;
mod kill;
mod limits;
mod slow;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::role::Role;

/// A topology and a journal, gone with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("bus-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        let topology = json!({ "serviceBus": {
            "queues": [
                { "name": "q", "lockDuration": "PT3S", "maxDeliveryCount": 2000 },
                { "name": "long", "lockDuration": "PT5M" },
                { "name": "once", "requiresDuplicateDetection": true },
            ],
            "topics": [{ "name": "t", "subscriptions": [{ "name": "a" }, { "name": "b" }] }],
        }});
        std::fs::write(path.join("topology.json"), topology.to_string()).unwrap();
        Self(path)
    }

    fn topology(&self) -> PathBuf {
        self.0.join("topology.json")
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// Starts the process; dropping it is a SIGKILL.
    async fn start(&self) -> Role {
        self.start_with(&[]).await
    }

    /// The same with further flags.
    async fn start_with(&self, further: &[&str]) -> Role {
        let data = self.data();
        let keeping: &[&OsStr] = &["--data".as_ref(), data.as_ref()];
        // Without a journal there is no directory for one.
        let keeping = if further.contains(&"--ephemeral") { &[] } else { keeping };
        let command = Command::new(env!("CARGO_BIN_EXE_stack"));
        self.start_as(command, &[keeping, &further.iter().map(AsRef::as_ref).collect::<Vec<_>>()])
            .await
    }

    async fn start_as(&self, command: Command, arguments: &[&[&OsStr]]) -> Role {
        let topology = self.topology();
        let common: &[&OsStr] = &["bus".as_ref(), "--topology".as_ref(), topology.as_ref()];
        Role::start_as(command, &[&[common], arguments].concat().concat()).await
    }

    /// Files of the journal with this extension, in order.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let has = |path: &Path| path.extension().is_some_and(|found| found == extension);
        let entries = std::fs::read_dir(self.data()).unwrap();
        let mut found: Vec<_> =
            entries.map(|entry| entry.unwrap().path()).filter(|path| has(path)).collect();
        found.sort();
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
