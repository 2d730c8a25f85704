//! Counters, for Prometheus and for whoever looks at a container.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use http::{Method, StatusCode};

use crate::disk::LogStats;
use crate::store::{ContainerRid, Store};

/// What has happened since the start.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<Counters>);

#[derive(Debug, Default)]
struct Counters {
    /// By method and status: a few dozen at most.
    answers: BTreeMap<(&'static str, u16), u64>,
    containers: BTreeMap<ContainerRid, Used>,
}

/// What requests about one container came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    pub(super) requests: u64,
    pub(super) request_units: f64,
    pub(super) throttled: u64,
}

impl Metrics {
    pub(super) fn answered(&self, method: &Method, status: StatusCode) {
        // Other methods are refused; their names are the clients' invention.
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counters.answers.entry((method, status.as_u16())).or_default() += 1;
    }

    pub(super) fn charged(&self, container: ContainerRid, units: f64, throttled: bool) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = counters.containers.entry(container).or_default();
        used.requests += 1;
        used.request_units += units;
        used.throttled += u64::from(throttled);
    }

    pub(super) fn of(&self, container: ContainerRid) -> Used {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.containers.get(&container).copied().unwrap_or_default()
    }

    /// The text format of Prometheus
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    pub(super) fn text(&self, store: &Store, log: Option<LogStats>) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, f64)>| {
            // Writing into a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        {
            let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let answers = counters.answers.iter().map(|((method, status), count)| {
                (format!("{{method=\"{method}\",status=\"{status}\"}}"), *count as f64)
            });
            let answers = answers.collect();
            family("cosmos_answers_total", "counter", "Answers by method and status.", answers);
        }
        let mut containers = Vec::new();
        for database in store.databases() {
            for container in store.containers(database.rid) {
                let (database, id) = (label(&database.id), label(&container.settings().id));
                let labels = format!("{{database=\"{database}\",container=\"{id}\"}}");
                containers.push((labels, container.len(), self.of(container.rid())));
            }
        }
        let each = |value: &dyn Fn(usize, Used) -> f64| {
            containers
                .iter()
                .map(|(labels, items, used)| (labels.clone(), value(*items, *used)))
                .collect()
        };
        family("cosmos_items", "gauge", "Items in a container.", each(&|items, _| items as f64));
        let units = each(&|_, used| used.request_units);
        family("cosmos_request_units_total", "counter", "Request units charged.", units);
        let requests = each(&|_, used| used.requests as f64);
        family("cosmos_container_requests_total", "counter", "Requests about items.", requests);
        let throttled = each(&|_, used| used.throttled as f64);
        family("cosmos_throttled_total", "counter", "Requests refused with 429.", throttled);
        if let Some(log) = log {
            let one = |value: u64| vec![(String::new(), value as f64)];
            family("cosmos_log_bytes", "gauge", "Size of the log.", one(log.bytes));
            family(
                "cosmos_log_live_bytes",
                "gauge",
                "Texts that are current.",
                one(log.live_bytes),
            );
            family("cosmos_log_records_total", "counter", "Records synced.", one(log.records));
            family("cosmos_log_syncs_total", "counter", "Groups synced.", one(log.syncs));
        }
        text
    }
}

/// A label value; ids hold neither backslashes nor line breaks that matter here.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
