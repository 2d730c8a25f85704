//! An app directory whose handler is this executable.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Result;

/// A directory laid out as a Function App. Removed when dropped.
pub(crate) struct App {
    root: PathBuf,
}

impl App {
    /// `number` tells it from the other apps of this run.
    pub(crate) fn new(number: usize, functions: &[(&str, Value)]) -> Result<Self> {
        let name = format!("host-bench-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&root)?;
        let app = Self { root };
        let host = json!({
            "version": "2.0",
            "extensionBundle": {
                "id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)"
            },
            "customHandler": {
                "description": { "defaultExecutablePath": "handler", "arguments": ["handler"] },
                "enableProxyingHttpRequest": true
            }
        });
        std::fs::write(app.root.join("host.json"), host.to_string())?;
        std::os::unix::fs::symlink(std::env::current_exe()?, app.root.join("handler"))?;
        for (name, bindings) in functions {
            std::fs::create_dir(app.root.join(name))?;
            let file = json!({ "bindings": bindings });
            std::fs::write(app.root.join(name).join("function.json"), file.to_string())?;
        }
        Ok(app)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// An HTTP function at `/api/<route>`.
pub(crate) fn http(route: &str) -> Value {
    json!([
        { "type": "httpTrigger", "direction": "in", "name": "req", "route": route },
        { "type": "http", "direction": "out", "name": "res" }
    ])
}

/// A function for the messages of `queue`; the broker is the setting `Bus`.
pub(crate) fn service_bus(queue: &str) -> Value {
    json!([{ "type": "serviceBusTrigger", "name": "message", "direction": "in",
        "queueName": queue, "connection": "Bus" }])
}

/// A function that is never due during a run.
pub(crate) fn timer() -> Value {
    json!([{ "type": "timerTrigger", "name": "tick", "direction": "in",
        "schedule": "0 0 0 1 1 *" }])
}

/// The value of the setting `Bus`.
pub(crate) fn connection_string(broker: SocketAddr) -> String {
    let bus::Options { shared_access_key_name: name, shared_access_key: key, .. } =
        bus::Options::default();
    format!(
        "Endpoint=sb://{broker};SharedAccessKeyName={name};SharedAccessKey={key};\
         UseDevelopmentEmulator=true;"
    )
}
