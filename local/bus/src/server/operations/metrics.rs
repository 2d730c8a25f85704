//! Counts in the text format of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write as _;

use journal::WriteTimes;
use journal::limits::WRITE_TIMES_MS;

use crate::broker::{QueueStatus, Status};

/// One gauge per kind of count, one line per entity; how the disk does, if there is a journal.
pub(super) fn text(status: &Status, writes: Option<WriteTimes>) -> String {
    let mut out = String::new();
    let mut entities: Vec<(String, Counts)> =
        status.queues.iter().map(|queue| (queue.name.clone(), Counts::of(queue))).collect();
    for topic in &status.topics {
        let scheduled = Counts { scheduled: topic.scheduled, ..Counts::default() };
        entities.push((topic.name.clone(), scheduled));
        for subscription in &topic.subscriptions {
            let path = format!("{}/Subscriptions/{}", topic.name, subscription.name);
            let counts = Counts {
                active: subscription.active,
                locked: subscription.locked,
                deferred: subscription.deferred,
                scheduled: 0,
                dead_letter: subscription.dead_letter,
                transfer: subscription.transfer,
                bytes: subscription.size_bytes,
                oldest_ms: subscription.oldest_age_ms,
            };
            entities.push((path, counts));
        }
    }
    gauge(&mut out, "bus_connections", "Connections being served.");
    let _ = writeln!(out, "bus_connections {}", status.connections);
    gauge(&mut out, "bus_messages", "Messages of an entity by state.");
    for (entity, counts) in &entities {
        for (state, count) in counts.states() {
            let entity = escape(entity);
            let _ = writeln!(out, "bus_messages{{entity=\"{entity}\",state=\"{state}\"}} {count}");
        }
    }
    gauge(&mut out, "bus_message_bytes", "Bytes of the messages of an entity.");
    for (entity, counts) in &entities {
        let _ =
            writeln!(out, "bus_message_bytes{{entity=\"{}\"}} {}", escape(entity), counts.bytes);
    }
    gauge(&mut out, "bus_oldest_message_age_seconds", "Age of the oldest active message.");
    for (entity, counts) in &entities {
        if let Some(ms) = counts.oldest_ms {
            let (seconds, rest) = (ms / 1_000, ms % 1_000);
            let entity = escape(entity);
            let _ = writeln!(
                out,
                "bus_oldest_message_age_seconds{{entity=\"{entity}\"}} {seconds}.{rest:03}"
            );
        }
    }
    gauge(&mut out, "bus_memory_bytes", "Bytes of messages in memory.");
    let _ = writeln!(out, "bus_memory_bytes {}", status.memory_bytes);
    gauge(&mut out, "bus_journal_bytes", "Bytes of journal since the last snapshot.");
    let _ = writeln!(out, "bus_journal_bytes {}", status.journal_bytes);
    if let Some(writes) = writes {
        histogram(&mut out, &writes);
    }
    out
}

fn histogram(out: &mut String, writes: &WriteTimes) {
    let name = "bus_journal_write_seconds";
    let help = "Time to write a group of changes to the journal and sync it.";
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    let mut below = 0;
    for (ms, count) in WRITE_TIMES_MS.iter().zip(writes.counts) {
        below += count;
        let (seconds, rest) = (ms / 1_000, ms % 1_000);
        let _ = writeln!(out, "{name}_bucket{{le=\"{seconds}.{rest:03}\"}} {below}");
    }
    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", writes.count());
    let _ = writeln!(out, "{name}_sum {:.6}", writes.total.as_secs_f64());
    let _ = writeln!(out, "{name}_count {}", writes.count());
}

fn gauge(out: &mut String, name: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
}

/// A label's value; names of entities need it only if they come from a hostile administrator.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[derive(Default)]
struct Counts {
    active: usize,
    locked: usize,
    deferred: usize,
    scheduled: usize,
    dead_letter: usize,
    transfer: usize,
    bytes: u64,
    oldest_ms: Option<i64>,
}

impl Counts {
    fn of(queue: &QueueStatus) -> Counts {
        Counts {
            active: queue.active,
            locked: queue.locked,
            deferred: queue.deferred,
            scheduled: queue.scheduled,
            dead_letter: queue.dead_letter,
            transfer: queue.transfer,
            bytes: queue.size_bytes,
            oldest_ms: queue.oldest_age_ms,
        }
    }

    fn states(&self) -> [(&'static str, usize); 6] {
        [
            ("active", self.active),
            ("locked", self.locked),
            ("deferred", self.deferred),
            ("scheduled", self.scheduled),
            ("dead_letter", self.dead_letter),
            ("transfer", self.transfer),
        ]
    }
}
