//! One function's share of a container: find the container and its leases, take what is due, run a
//! range for each.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::Shared;
use super::account::{Account, StoreError};
use super::balance::{self, Claim};
use super::feed::{Feed, Position};
use super::lease::{Lease, Leases};
use super::link::Link;
use super::range::{AWAY_MAX, AWAY_MIN, Left, Range};
use crate::bindings::Function;
use crate::config::cosmos::{CosmosDbTrigger, FirstStart};
use crate::log::{Level, Logger};

/// Everything about one function's subscription that outlives a look at its container.
pub(super) struct Listener {
    shared: Shared,
    function: Arc<Function>,
    trigger: Arc<CosmosDbTrigger>,
    /// Owner of the leases held here; another one in every process.
    me: Arc<str>,
    link: Arc<Link>,
    monitored: Account,
    leased: Account,
}

/// The container and its leases, as they were found.
struct Session {
    feed: Feed,
    leases: Leases,
    ranges: HashSet<String>,
}

/// A partition key range of the monitored container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyRange {
    id: String,
    /// What it was split from, or merged of.
    parents: Vec<String>,
}

impl Listener {
    pub(super) fn new(
        shared: Shared,
        function: Arc<Function>,
        trigger: Arc<CosmosDbTrigger>,
    ) -> Self {
        let log = shared.invoker.log.clone();
        let monitored = Account::new(trigger.monitored.account.clone(), log.clone());
        let leased = match trigger.leases.account == trigger.monitored.account {
            true => monitored.clone(),
            false => Account::new(trigger.leases.account.clone(), log.clone()),
        };
        let link = Link::new(log, &function, &trigger);
        Self {
            shared,
            function,
            trigger,
            me: Uuid::new_v4().to_string().into(),
            link,
            monitored,
            leased,
        }
    }

    /// Listens until `stop`, and gives all leases back.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut pause = AWAY_MIN;
        loop {
            let connected = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                connected = self.connect() => connected,
            };
            let since = Instant::now();
            let why = match connected {
                Ok(session) => match self.operate(&session, &stop).await {
                    None => return,
                    Some(why) => why,
                },
                Err(why) => why,
            };
            self.link.down(&why);
            if since.elapsed() > AWAY_MAX {
                pause = AWAY_MIN;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(pause) => pause = (pause * 2).min(AWAY_MAX),
            }
        }
    }

    /// Finds the container and its ranges, and sees to it that each has a lease.
    async fn connect(&self) -> Result<Session, String> {
        let (monitored, leased) = (&self.trigger.monitored, &self.trigger.leases);
        let (database, container) = (monitored.database.as_str(), monitored.container.as_str());
        let found = async {
            let of_database = self.get(&self.monitored, &["dbs", database]).await?;
            let of_container =
                self.get(&self.monitored, &["dbs", database, "colls", container]).await?;
            Ok((of_database, of_container))
        };
        let (database_rid, rid) =
            found.await.map_err(|error: StoreError| match error.is(StatusCode::NOT_FOUND) {
                true => format!("there is no container {monitored}"),
                false => error.to_string(),
            })?;
        self.find_lease_container().await?;
        let host = monitored.account.host();
        let prefix = format!("{}{host}_{database_rid}_{rid}", self.trigger.lease_prefix);
        let leases =
            Leases::new(self.leased.clone(), leased.clone(), &prefix, &self.me, self.log());
        let feed = Feed {
            account: self.monitored.clone(),
            address: Arc::new(monitored.clone()),
            rid: rid.into(),
            max_items: self.trigger.max_items,
        };
        let filled = async {
            let ranges = self.ranges().await?;
            let existing = leases.list().await?;
            for (range, inherited) in without_lease(&ranges, &existing) {
                let start = match (inherited, self.trigger.start) {
                    (Some(continuation), _) => Some(continuation),
                    // Kept at once: what changes from now on is not lost if this host goes away
                    // before the first change.
                    (None, FirstStart::Now) => Some(feed.poll(&range, &Position::Now).await?.next),
                    (None, FirstStart::Beginning | FirstStart::Time(_)) => None,
                };
                leases.create(&range, start.as_deref()).await?;
            }
            Ok(ranges.into_iter().map(|range| range.id).collect())
        };
        let ranges = filled.await.map_err(|error: StoreError| error.to_string())?;
        Ok(Session { feed, leases, ranges })
    }

    /// The resource id of a database or a container.
    async fn get(&self, account: &Account, path: &[&str]) -> Result<String, StoreError> {
        account.send(Method::GET, path, &[], "").await?.text("_rid")
    }

    async fn find_lease_container(&self) -> Result<(), String> {
        let address = &self.trigger.leases;
        let path = ["dbs", &address.database, "colls", &address.container];
        match self.get(&self.leased, &path).await {
            Ok(_) => return Ok(()),
            Err(error) if !error.is(StatusCode::NOT_FOUND) => return Err(error.to_string()),
            Err(_) => {}
        }
        if !self.trigger.create_leases {
            return Err(format!(
                "there is no lease container {address}; create it with partition key /id, or set \
                 createLeaseContainerIfNotExists to true"
            ));
        }
        let body = json!({
            "id": address.container,
            "partitionKey": { "paths": ["/id"], "kind": "Hash", "version": 2 },
            "defaultTtl": -1,
        });
        let throughput = self.trigger.lease_throughput.map(|units| units.to_string());
        let headers: Vec<_> =
            throughput.iter().map(|units| ("x-ms-offer-throughput", units.as_str())).collect();
        match self.leased.send(Method::POST, &path[..3], &headers, body.to_string()).await {
            Ok(_) => {
                self.link.line(Level::Information, format!("Lease container {address} created."));
                Ok(())
            }
            Err(error) if error.is(StatusCode::CONFLICT) => Ok(()),
            Err(error) => Err(format!("lease container {address} cannot be created: {error}")),
        }
    }

    async fn ranges(&self) -> Result<Vec<KeyRange>, StoreError> {
        let address = &self.trigger.monitored;
        let path = ["dbs", &address.database, "colls", &address.container, "pkranges"];
        let answer = self.monitored.send(Method::GET, &path, &[], "").await?.object()?;
        let unreadable = StoreError::Unreadable("PartitionKeyRanges");
        let list = answer.get("PartitionKeyRanges").and_then(Value::as_array).ok_or(unreadable)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(list
            .iter()
            .filter_map(|range| {
                let parents = range["parents"].as_array();
                let parents = parents.into_iter().flatten().filter_map(text).collect();
                Some(KeyRange { id: text(&range["id"])?, parents })
            })
            .collect())
    }

    /// Takes and processes ranges until the host stops (`None`), or until the container has to be
    /// looked at anew (why).
    async fn operate(&self, session: &Session, stop: &CancellationToken) -> Option<String> {
        let mut running: JoinSet<(String, Left)> = JoinSet::new();
        let mut held: HashSet<String> = HashSet::new();
        let mut due = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = running.join_next() => match ended {
                    Ok((range, Left::Lost)) => {
                        held.remove(&range);
                        let text = format!(
                            "The lease of range {range} of {} is lost; another host may have it.",
                            self.trigger.monitored
                        );
                        self.link.line(Level::Warning, text);
                    }
                    Ok((_, Left::Stopped)) => {}
                    // Those of the others are dropped with `running`, and taken up again.
                    Ok((_, Left::Stale(why))) => return Some(why),
                    Err(error) => return Some(format!("a range ended unexpectedly: {error}")),
                },
                () = sleep_until(due) => {
                    due = Instant::now() + self.acquire(session, &mut running, &mut held, stop).await;
                }
            }
        }
        // Invocations in flight end, and leases are given back.
        while running.join_next().await.is_some() {}
        None
    }

    /// Takes what is due; answers when to look again.
    async fn acquire(
        &self,
        session: &Session,
        running: &mut JoinSet<(String, Left)>,
        held: &mut HashSet<String>,
        stop: &CancellationToken,
    ) -> Duration {
        let listed = tokio::select! {
            biased;
            () = stop.cancelled() => return Duration::ZERO,
            listed = session.leases.list() => listed,
        };
        let leases = match listed {
            Ok(leases) => leases,
            Err(error) => {
                self.link.down(&error.to_string());
                return self.trigger.acquire_interval.min(AWAY_MAX);
            }
        };
        self.link.up();
        let leases: Vec<Lease> =
            leases.into_iter().filter(|lease| session.ranges.contains(lease.range())).collect();
        let now = self.log().now();
        let claims: Vec<Claim<'_>> = leases
            .iter()
            .map(|lease| {
                let mine = held.contains(lease.range());
                let alive = mine || !lease.is_expired(self.trigger.expiration, now);
                // One that was held before the container was looked at anew is free.
                let left_over = !mine && lease.owner() == Some(&*self.me);
                Claim { holder: lease.owner().filter(|_| alive && !left_over) }
            })
            .collect();
        for index in balance::wanted(&claims, &self.me) {
            let before = Instant::now();
            match session.leases.take(leases[index].clone()).await {
                Ok(Some(lease)) => {
                    let range = lease.range().to_owned();
                    self.link.line(
                        Level::Information,
                        format!(
                            "Function '{}' processes range {range} of {} here.",
                            self.function.name, self.trigger.monitored
                        ),
                    );
                    held.insert(range.clone());
                    let work = self.range(session, lease, before, &range).run(stop.clone());
                    running.spawn(async move { (range, work.await) });
                }
                Ok(None) => {}
                Err(error) => self.link.down(&error.to_string()),
            }
        }
        self.trigger.acquire_interval
    }

    fn range(&self, session: &Session, lease: Lease, written: Instant, range: &str) -> Range {
        Range {
            invoker: Arc::clone(&self.shared.invoker),
            function: Arc::clone(&self.function),
            trigger: Arc::clone(&self.trigger),
            feed: session.feed.clone(),
            leases: session.leases.clone(),
            link: Arc::clone(&self.link),
            lease: Mutex::new(lease),
            written: std::sync::Mutex::new(written),
            range: range.to_owned(),
        }
    }

    fn log(&self) -> Logger {
        self.shared.invoker.log.clone()
    }
}

/// The ranges without a lease, each with the position it inherits: a range that was split has
/// been processed up to there.
fn without_lease(ranges: &[KeyRange], leases: &[Lease]) -> Vec<(String, Option<String>)> {
    let lease = |id: &str| leases.iter().find(|lease| lease.range() == id);
    ranges
        .iter()
        .filter(|range| lease(&range.id).is_none())
        .map(|range| {
            // The last one is the direct parent.
            let parent = range.parents.iter().rev().find_map(|parent| lease(parent));
            let continuation = parent.and_then(Lease::continuation).map(str::to_owned);
            (range.id.clone(), continuation)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_of_a_range_go_on_where_it_ended() {
        let range = |id: &str, parents: &[&str]| KeyRange {
            id: id.to_owned(),
            parents: parents.iter().map(|parent| (*parent).to_owned()).collect(),
        };
        let lease = |id: &str, continuation: Value| {
            Lease::from_document(json!({ "LeaseToken": id, "ContinuationToken": continuation }))
        };
        let ranges = [range("3", &["0", "1"]), range("4", &["0", "1"]), range("2", &["0"])];
        let leases =
            [lease("0", json!("\"5\"")), lease("1", json!("\"9\"")), lease("4", json!(null))];
        assert_eq!(
            without_lease(&ranges, &leases),
            [
                ("3".to_owned(), Some("\"9\"".to_owned())),
                ("2".to_owned(), Some("\"5\"".to_owned()))
            ]
        );
        assert_eq!(without_lease(&ranges[..1], &[]), [("3".to_owned(), None)]);
    }
}
