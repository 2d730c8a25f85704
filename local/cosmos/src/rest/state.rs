//! What all connections share: the store, the clock, the key.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use listener::Clock;

use super::reply::{Origin, Refusal};
use super::request::Request;
use super::throttle::Throttle;
use crate::auth::Key;
use crate::disk::Compactor;
use crate::store::{Container, ContainerRid, Durability, PartitionKey, Store, feed};
use http::StatusCode;

/// The shared state of a server.
pub(super) struct State {
    store: RwLock<Store>,
    pub(super) clock: Clock,
    pub(super) key: Key,
    pub(super) throttle: Option<Mutex<Throttle>>,
    pub(super) durability: Durability,
    pub(super) compactor: Option<Compactor>,
}

impl State {
    pub(super) fn new(
        store: Store,
        compactor: Option<Compactor>,
        clock: Clock,
        key: Key,
        throttle: Option<Throttle>,
    ) -> Self {
        let throttle = throttle.map(Mutex::new);
        let durability = store.durability();
        Self { store: RwLock::new(store), clock, key, throttle, durability, compactor }
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

/// A container named in a path, checked against what the client believes about it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) rid: ContainerRid,
    pub(super) origin: Origin,
    pub(super) default_ttl: Option<i64>,
    pub(super) key_paths: Vec<Vec<String>>,
    pub(super) database: String,
}

impl Target {
    /// Finds the container and checks the resource id, the range id and the session token that the
    /// request carries.
    pub(super) fn find(
        state: &State,
        request: &Request,
        database: &str,
        name: &str,
    ) -> Result<Self, Refusal> {
        let store = state.read();
        let container = store.container(database, name)?;
        let database = store.database(database)?.id.clone();
        let target = Self {
            rid: container.rid(),
            origin: Origin::new(&database, container),
            default_ttl: container.settings().default_ttl,
            key_paths: container.settings().partition_key.paths.clone(),
            database,
        };
        target.check(request)?;
        Ok(target)
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let intended = request.header("x-ms-cosmos-intended-collection-rid");
        if intended.is_some_and(|rid| rid != self.origin.rid) {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                1024,
                "the container was recreated under another resource id",
            ));
        }
        let range = request.header("x-ms-documentdb-partitionkeyrangeid");
        if range.is_some_and(|id| id.rsplit(',').next() != Some("0")) {
            return Err(Refusal::new(
                StatusCode::GONE,
                1002,
                "the partition key range does not exist",
            ));
        }
        let token = request.header("x-ms-session-token");
        if token.is_some_and(|token| session_lsn(token) > self.origin.lsn)
            && request
                .header("x-ms-consistency-level")
                .is_none_or(|l| l.eq_ignore_ascii_case("session"))
        {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                1002,
                "the read session is not available for the input session token",
            ));
        }
        Ok(())
    }

    /// The same container now; it may have been deleted since.
    pub(super) fn container<'a>(&self, store: &'a Store) -> Result<&'a Container, Refusal> {
        store.container_at(self.rid).map_err(Refusal::from)
    }

    /// The partition key of a point operation.
    pub(super) fn key(&self, request: &Request) -> Result<PartitionKey, Refusal> {
        let header = request.header("x-ms-documentdb-partitionkey").ok_or_else(|| {
            Refusal::bad("the x-ms-documentdb-partitionkey header is required for this operation")
        })?;
        let key = PartitionKey::parse(header)?;
        if key.0.len() != self.key_paths.len() {
            return Err(Refusal::bad("the partition key has the wrong number of values"));
        }
        Ok(key)
    }

    /// What a query or a feed is limited to.
    pub(super) fn scope(&self, request: &Request) -> Result<feed::Scope, Refusal> {
        if let Some(header) = request.header("x-ms-documentdb-partitionkey") {
            let key = PartitionKey::parse(header)?;
            return match key.0.len().cmp(&self.key_paths.len()) {
                std::cmp::Ordering::Equal => Ok(feed::Scope::Partition(key)),
                std::cmp::Ordering::Less => Ok(feed::Scope::Prefix(key)),
                std::cmp::Ordering::Greater => {
                    Err(Refusal::bad("the partition key has too many values"))
                }
            };
        }
        let start = request.header("x-ms-start-epk");
        let end = request.header("x-ms-end-epk");
        if start.is_none() && end.is_none() {
            return Ok(feed::Scope::All);
        }
        let bound = |text: Option<&str>, default: Vec<u8>| match text {
            None => Ok(default),
            Some(text) => crate::store::epk_from_hex(text.trim_matches('"'))
                .ok_or_else(|| Refusal::bad("an effective partition key is not hexadecimal")),
        };
        Ok(feed::Scope::Range { min: bound(start, Vec::new())?, max: bound(end, vec![0xFF])? })
    }
}

/// The highest log sequence number in a session token such as `0:-1#17` or `0:1#17#0=12`.
fn session_lsn(token: &str) -> u64 {
    let lsn = |part: &str| -> Option<u64> {
        let (range, rest) = part.split_once(':')?;
        if range.trim() != "0" {
            return None;
        }
        rest.split('#').nth(1).unwrap_or(rest).parse().ok()
    };
    token.split(',').filter_map(lsn).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_tokens_of_all_forms() {
        for (token, lsn) in [
            ("0:17", 17),
            ("0:-1#17", 17),
            ("0:1#17#0=12", 17),
            ("1:-1#9", 0),
            ("0:3,0:-1#5", 5),
            ("x", 0),
        ] {
            assert_eq!(session_lsn(token), lsn, "{token}");
        }
    }
}
