//! Refused requests on their way to the audit trail: bounded, whatever comes.
//!
//! Requests never wait for it. What was refused goes into a queue, and one background task writes
//! it down: the first of a kind at once, those like it as one entry with their number a few seconds
//! later. Beyond a budget they are only counted. So a flood of refused requests costs a handful of
//! writes and leaves a trace of its size; the log has each of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::chain::chain;
use crate::store::audit::{Audit, AuditEntry, Deed, Subject};
use crate::telemetry::REFUSALS_SUPPRESSED;

/// Refusals that wait to be written down, some 300 bytes each.
const QUEUE_MAX: usize = 1_024;

/// How long refusals that are alike are gathered.
const WINDOW: Duration = Duration::from_secs(5);

/// Entries that may be written at once: somebody who tries every route as everybody, and no more.
const BURST_MAX: u32 = 500;

/// Entries a second that are written on and on.
const PER_SECOND_MAX: u32 = 10;

/// How long the last entries may take when the process stops, below the grace of the host.
const FLUSH_MAX: Duration = Duration::from_millis(800);

/// Whose id is unknown. No principal has an id with brackets around it.
const NOBODY: &str = "(nobody)";

/// Stands for what was not written down one by one.
const MANY: &str = "(many)";

/// A request that was refused because of who asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Refusal {
    /// Who; `None` where that could not be made out.
    pub(super) actor: Option<String>,
    /// Method and path, the latter as the router spells it.
    pub(super) route: String,
    /// The order in the path.
    pub(super) order_id: Option<String>,
    /// The problem, and what was wrong.
    pub(super) detail: String,
}

/// The near end: takes refusals and never waits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Refusals {
    queue: mpsc::Sender<(Refusal, String)>,
    overflow: Arc<AtomicU64>,
}

/// The far end: writes them down.
#[derive(Debug)]
pub struct Trail {
    queue: mpsc::Receiver<(Refusal, String)>,
    overflow: Arc<AtomicU64>,
    audit: Audit,
}

impl Refusals {
    /// Both ends of a way to `audit`.
    #[must_use]
    pub fn new(audit: Audit) -> (Self, Trail) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let overflow = Arc::new(AtomicU64::new(0));
        let near = Self { queue: sender, overflow: Arc::clone(&overflow) };
        (near, Trail { queue, overflow, audit })
    }

    /// Hands a refusal over, with the trace under which it is logged.
    pub(super) fn offer(&self, refusal: Refusal, trace_id: String) {
        if self.queue.try_send((refusal, trace_id)).is_err() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Trail {
    /// Writes until `shutdown`, then whatever is left, within a second.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { mut queue, overflow, audit } = self;
        let mut window = Window::new(Instant::now());
        let mut tick = interval(WINDOW);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                came = queue.recv() => {
                    let Some((refusal, trace_id)) = came else { break };
                    if let Some(entry) = window.take(refusal, trace_id, Instant::now()) {
                        write(&audit, &entry).await;
                    }
                }
                _ = tick.tick() => {
                    window.suppressed += overflow.swap(0, Ordering::Relaxed);
                    for entry in window.close(Instant::now()) {
                        write(&audit, &entry).await;
                    }
                }
            }
        }
        let last = async {
            while let Ok((refusal, trace_id)) = queue.try_recv() {
                if let Some(entry) = window.take(refusal, trace_id, Instant::now()) {
                    write(&audit, &entry).await;
                }
            }
            window.suppressed += overflow.swap(0, Ordering::Relaxed);
            for entry in window.close(Instant::now()) {
                write(&audit, &entry).await;
            }
        };
        if tokio::time::timeout(FLUSH_MAX, last).await.is_err() {
            warn!("the last refusals are not in the audit trail");
        }
    }
}

async fn write(audit: &Audit, entry: &AuditEntry) {
    if let Err(error) = audit.note(entry).await {
        warn!(error = %chain(&error), actor = entry.actor, source = entry.source,
            detail = entry.detail, "a refusal is not in the audit trail");
    }
}

/// What came since the last tick.
#[derive(Debug)]
struct Window {
    /// How often, since the entry that tells of the first.
    again: HashMap<Refusal, u64>,
    /// Those that no entry tells of.
    suppressed: u64,
    /// Entries that may be written right now.
    budget: f64,
    counted_at: Instant,
}

impl Window {
    fn new(now: Instant) -> Self {
        let budget = f64::from(BURST_MAX);
        Self { again: HashMap::new(), suppressed: 0, budget, counted_at: now }
    }

    /// The entry for a refusal that is the first of its kind and within the budget.
    fn take(&mut self, refusal: Refusal, trace_id: String, now: Instant) -> Option<AuditEntry> {
        if let Some(count) = self.again.get_mut(&refusal) {
            *count += 1;
            return None;
        }
        if !self.spend(now) {
            self.suppressed += 1;
            return None;
        }
        let mut entry = entry(&refusal);
        entry.trace_id = Some(trace_id);
        self.again.insert(refusal, 0);
        Some(entry)
    }

    /// The entries for what was counted.
    fn close(&mut self, now: Instant) -> Vec<AuditEntry> {
        let mut entries = Vec::new();
        for (refusal, count) in std::mem::take(&mut self.again) {
            if count > 0 && self.spend(now) {
                entries.push(AuditEntry { count: Some(count), ..entry(&refusal) });
            } else {
                self.suppressed += count;
            }
        }
        // One a window, budget or not: that there was more is never left out.
        if self.suppressed > 0 {
            REFUSALS_SUPPRESSED.add(self.suppressed, &[]);
            let refusal = Refusal {
                actor: Some(MANY.to_owned()),
                route: MANY.to_owned(),
                order_id: None,
                detail: "refusals that are not written down one by one; see the log".to_owned(),
            };
            let count = Some(std::mem::take(&mut self.suppressed));
            entries.push(AuditEntry { count, ..entry(&refusal) });
        }
        entries
    }

    fn spend(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.counted_at).as_secs_f64();
        self.counted_at = now;
        let earned = earned * f64::from(PER_SECOND_MAX);
        self.budget = (self.budget + earned).min(f64::from(BURST_MAX));
        let within = self.budget >= 1.0;
        if within {
            self.budget -= 1.0;
        }
        within
    }
}

fn entry(refusal: &Refusal) -> AuditEntry {
    let subject = Subject {
        action: Deed::Access,
        actor: refusal.actor.as_deref().unwrap_or(NOBODY),
        reason: "",
        source: &refusal.route,
        sequence_number: None,
        message_id: None,
        order_id: refusal.order_id.clone(),
    };
    AuditEntry::refused(&subject, &refusal.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(actor: &str) -> Refusal {
        Refusal {
            actor: Some(actor.to_owned()),
            route: "POST /api/orders".to_owned(),
            order_id: None,
            detail: "/problems/forbidden".to_owned(),
        }
    }

    fn counts(entries: &[AuditEntry]) -> Vec<(&str, Option<u64>)> {
        entries.iter().map(|entry| (entry.actor.as_str(), entry.count)).collect()
    }

    #[test]
    fn those_like_the_first_are_one_entry_with_their_number() {
        let now = Instant::now();
        let mut window = Window::new(now);
        let first = window.take(refusal("mallory"), "t".to_owned(), now).expect("written at once");
        assert_eq!((first.actor.as_str(), first.count), ("mallory", None));
        assert_eq!(first.trace_id.as_deref(), Some("t"));
        for _ in 0..9_999 {
            assert!(window.take(refusal("mallory"), "t".to_owned(), now).is_none());
        }
        assert_eq!(counts(&window.close(now)), [("mallory", Some(9_999))]);
        assert!(window.close(now).is_empty());
        assert!(window.take(refusal("mallory"), "t".to_owned(), now).is_some(), "a new window");
    }

    #[test]
    fn a_flood_of_different_ones_is_counted_beyond_the_budget() {
        let now = Instant::now();
        let mut window = Window::new(now);
        let flood = |window: &mut Window, now| {
            let each = (0..10_000).map(|n| refusal(&n.to_string()));
            each.filter_map(|refusal| window.take(refusal, String::new(), now)).count()
        };
        assert_eq!(flood(&mut window, now), 500);
        assert_eq!(counts(&window.close(now)), [(MANY, Some(9_500))]);
        let later = now + WINDOW;
        let earned = PER_SECOND_MAX as usize * WINDOW.as_secs() as usize;
        assert_eq!(flood(&mut window, later), earned, "from then on the steady rate");
        assert_eq!(counts(&window.close(later)), [(MANY, Some(9_950))]);
    }
}
