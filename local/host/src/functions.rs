//! What the host tells others about the functions it found.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::bindings::Trigger;
use crate::config::function_json::Indexed;
use crate::error::Problem;

/// One function of the app, usable or not.
#[derive(Debug, Clone)]
pub struct FunctionInfo {
    /// Folder name.
    pub name: String,
    /// `type` of its trigger, e.g. `serviceBusTrigger`; empty when it could not be read.
    pub trigger_type: String,
    /// HTTP methods it answers, upper case; empty means every method (or no HTTP trigger).
    pub methods: Vec<String>,
    /// Route template including the prefix, without a leading slash; HTTP triggers only.
    pub route: Option<String>,
    /// Where to call it; HTTP triggers only.
    pub url: Option<String>,
    /// What starts it, except for HTTP: the queue, `topic/Subscriptions/subscription`,
    /// `database/container`, the schedule.
    pub entity: Option<String>,
    /// Switched off in `function.json` or by `AzureWebJobs.<name>.Disabled`.
    pub disabled: bool,
    /// Why it cannot run. Empty when it can.
    pub problems: Vec<Problem>,
    /// The content of `function.json`.
    pub config: Value,
}

impl FunctionInfo {
    pub(crate) fn new(indexed: &Indexed, address: SocketAddr) -> Self {
        let mut info = Self {
            name: indexed.name.to_string(),
            trigger_type: indexed.trigger_type.clone().unwrap_or_default(),
            methods: Vec::new(),
            route: None,
            url: None,
            entity: None,
            disabled: indexed.disabled,
            problems: indexed.outcome.as_ref().err().cloned().unwrap_or_default(),
            config: indexed.config.clone(),
        };
        match indexed.outcome.as_ref().map(|function| &function.trigger) {
            Ok(Trigger::Http(http)) => {
                info.methods.clone_from(&http.methods);
                info.route = Some(http.template.to_string());
                info.url = Some(format!("http://{}/{}", shown(address), http.template));
            }
            Ok(Trigger::ServiceBus(bus)) => info.entity = Some(bus.entity.clone()),
            Ok(Trigger::Queue(queue)) => info.entity = Some(queue.queue.clone()),
            Ok(Trigger::Timer(timer)) => info.entity = Some(timer.text.clone()),
            Ok(Trigger::CosmosDb(feed)) => info.entity = Some(feed.monitored.to_string()),
            Err(_) => {}
        }
        info
    }

    /// Its line below the `Functions:` header, as `func` prints it.
    pub(crate) fn listing(&self) -> String {
        match &self.url {
            Some(url) if self.methods.is_empty() => format!("\t{}: {url}", self.name),
            Some(url) => format!("\t{}: [{}] {url}", self.name, self.methods.join(",")),
            None => format!("\t{}: {}", self.name, self.trigger_type),
        }
    }

    /// Its entry in `/admin/functions`.
    pub(crate) fn admin(&self, address: SocketAddr) -> Value {
        json!({
            "name": self.name,
            "href": format!("http://{}/admin/functions/{}", shown(address), self.name),
            "invoke_url_template": self.url,
            "language": "Custom",
            "isDisabled": self.disabled,
            "config": self.config,
            "files": null,
            "test_data": "",
            "errors": self.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

/// The address people type: the loopback address by its name.
pub(crate) fn shown(address: SocketAddr) -> String {
    if address.ip().is_loopback() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}
