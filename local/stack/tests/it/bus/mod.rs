//! The Service Bus stand-in as a process that is killed: what it was told survives, whatever
//! happens to it and to its files.

mod client;
mod damage;
mod kill;

use std::path::{Path, PathBuf};

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
        let (topology, data) = (self.topology(), self.data());
        let arguments = [
            "bus".as_ref(),
            "--topology".as_ref(),
            topology.as_ref(),
            "--data".as_ref(),
            data.as_ref(),
        ];
        Role::start(&arguments).await
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
