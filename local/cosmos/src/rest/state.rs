//! What all connections share: the store, the clock, the key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use listener::Clock;

use super::faults::Faults;
use super::metrics::Metrics;
use super::server::Options;
use super::throttle::Throttle;
use crate::auth::Access;
use crate::disk::Compactor;
use crate::limits::{DEFAULT_THROUGHPUT, MAX_PARTITION_KEY_RANGES};
use crate::store::{ContainerRid, Durability, Ranges, Store};

/// The shared state of a server.
pub(super) struct State {
    store: RwLock<Store>,
    pub(super) clock: Clock,
    pub(super) access: Access,
    /// The budget of the whole account, if it has one.
    pub(super) throttle: Option<Mutex<Throttle>>,
    /// The budgets of containers, if their offers count.
    budgets: Option<Mutex<BTreeMap<ContainerRid, Throttle>>>,
    pub(super) durability: Durability,
    pub(super) compactor: Option<Compactor>,
    /// The ranges of every container.
    pub(super) ranges: Ranges,
    /// Faults on order, if they may be ordered.
    pub(super) faults: Option<Faults>,
    pub(super) metrics: Metrics,
    /// Bytes of rows and groups that a query may hold.
    pub(super) max_held_bytes: usize,
    /// How clients reach it: `http` or `https`.
    pub(super) scheme: &'static str,
    /// Makes activity ids differ from those of other runs.
    run: u64,
    activities: AtomicU64,
}

impl State {
    pub(super) fn new(
        store: Store,
        compactor: Option<Compactor>,
        access: Access,
        options: &Options,
    ) -> Self {
        let clock = options.clock.clone();
        let throttle = options
            .request_units_per_second
            .map(|units| Mutex::new(Throttle::new(units.max(1.0), clock.now_ms())));
        Self {
            durability: store.durability(),
            store: RwLock::new(store),
            clock,
            access,
            throttle,
            budgets: options.enforce_throughput.then(Mutex::default),
            compactor,
            ranges: Ranges::new(options.partition_key_ranges.min(MAX_PARTITION_KEY_RANGES)),
            faults: options.faults.then(Faults::default),
            metrics: Metrics::default(),
            max_held_bytes: options.max_held_bytes,
            scheme: if options.certificate.is_some() { "https" } else { "http" },
            run: uuid::Uuid::new_v4().as_u64_pair().0,
            activities: AtomicU64::new(0),
        }
    }

    /// The id of a request that brought none. Counted, because randomness costs a system call.
    pub(super) fn activity_id(&self) -> uuid::Uuid {
        uuid::Uuid::from_u64_pair(self.run, self.activities.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets a request about items in, or says after how many milliseconds to come again.
    pub(super) fn admit_to(&self, container: ContainerRid) -> Result<(), u64> {
        let Some(budgets) = &self.budgets else { return Ok(()) };
        let now_ms = self.clock.now_ms();
        let offered = {
            let store = self.read();
            let offer = store.offer(container);
            let autoscale =
                offer.and_then(|o| o["offerAutopilotSettings"]["maxThroughput"].as_u64());
            autoscale
                .or_else(|| offer.and_then(|offer| offer["offerThroughput"].as_u64()))
                .unwrap_or(DEFAULT_THROUGHPUT)
        };
        let mut budgets = budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Throttle::new(offered as f64, now_ms);
        let budget = budgets.entry(container).or_insert_with(fresh);
        budget.set_rate(offered as f64);
        budget.admit(now_ms)
    }

    /// Takes what a request about items turned out to cost.
    pub(super) fn charge(&self, container: ContainerRid, units: f64) {
        if let Some(budgets) = &self.budgets {
            let mut budgets = budgets.lock().unwrap_or_else(PoisonError::into_inner);
            budgets.entry(container).and_modify(|budget| budget.spend(units));
        }
    }

    /// Gives up old files of the log while there are too many. Blocks.
    pub(super) fn compact(&self) {
        let Some(compactor) = &self.compactor else { return };
        while compactor.is_wanted() {
            if let Err(error) = compactor.run(&self.store, self.clock.now_ms()) {
                tracing::warn!(error = %error, "an old file of the log could not be given up");
                return;
            }
        }
    }

    // A panic while the lock was held cannot have left a half-applied commit: deciding panics
    // before anything changes. Going on is better than refusing everything from then on.

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Store> {
        self.store.write().unwrap_or_else(PoisonError::into_inner)
    }
}
