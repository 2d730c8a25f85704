//! The container that a request is about, and the part of it.

use std::sync::Arc;

use http::StatusCode;

use super::reply::{Origin, Refusal};
use super::request::Request;
use super::state::State;
use crate::store::{
    Container, ContainerRid, Definition, PartitionKey, Ranges, Store, epk_from_hex, feed,
};

/// A container named in a path, checked against what the client believes about it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) rid: ContainerRid,
    pub(super) origin: Origin,
    pub(super) default_ttl: Option<i64>,
    pub(super) partition_key: Arc<Definition>,
    pub(super) database: String,
    /// How many ranges the container has.
    pub(super) ranges: Ranges,
    /// The range that the request names.
    pub(super) range: Option<u16>,
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
        let ranges = container.ranges(state.ranges);
        let mut target = Self {
            rid: container.rid(),
            origin: Origin::new(&database, container, state.ranges),
            default_ttl: container.settings().default_ttl,
            partition_key: container.settings().partition_key.clone(),
            database,
            ranges,
            range: None,
        };
        target.check(request)?;
        Ok(target)
    }

    fn check(&mut self, request: &Request) -> Result<(), Refusal> {
        let intended = request.header("x-ms-cosmos-intended-collection-rid");
        if intended.is_some_and(|rid| rid != self.origin.rid) {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                1024,
                "the container was recreated under another resource id",
            ));
        }
        if let Some(id) = request.header("x-ms-documentdb-partitionkeyrangeid") {
            // Some clients put the resource id of the container in front.
            let number = id.rsplit(',').next().and_then(|id| id.parse().ok());
            let known = number.filter(|number| *number < self.ranges.count());
            let gone =
                || Refusal::new(StatusCode::GONE, 1002, "the partition key range does not exist");
            self.range = Some(known.ok_or_else(gone)?);
        }
        let token = request.header("x-ms-session-token");
        let consistency = request.header("x-ms-consistency-level");
        if consistency.is_none_or(|level| level.eq_ignore_ascii_case("session"))
            && let Some(token) = token
        {
            let wanted = session_lsn(token, self.ranges).ok_or_else(|| {
                Refusal::bad(format!("The session token '{token}' is malformed."))
            })?;
            if wanted > self.origin.lsn {
                let message = "the read session is not available for the input session token";
                return Err(Refusal::new(StatusCode::NOT_FOUND, 1002, message));
            }
        }
        Ok(())
    }

    /// The same container now; it may have been deleted since.
    pub(super) fn container<'a>(&self, store: &'a Store) -> Result<&'a Container, Refusal> {
        store.container_at(self.rid).map_err(Refusal::from)
    }

    /// What an answer that looked at the container now says about it.
    pub(super) fn origin(&self, container: &Container) -> Origin {
        Origin::new(&self.database, container, self.ranges).in_range(self.range)
    }

    /// The same for an answer about one partition.
    pub(super) fn origin_of(&self, container: &Container, key: &PartitionKey) -> Origin {
        self.origin(container).in_range(self.range_of(key))
    }

    /// The range that a complete key lies in; `None` when the question does not arise.
    pub(super) fn range_of(&self, key: &PartitionKey) -> Option<u16> {
        let asked = !self.ranges.is_one() && self.partition_key.is_complete(key);
        asked.then(|| self.ranges.of(&self.partition_key.partition(key.clone()).epk))
    }

    /// The partition key of a point operation.
    pub(super) fn key(&self, request: &Request) -> Result<PartitionKey, Refusal> {
        let header = request.header("x-ms-documentdb-partitionkey").ok_or_else(|| {
            Refusal::bad("the x-ms-documentdb-partitionkey header is required for this operation")
        })?;
        let key = PartitionKey::parse(header)?;
        if !self.partition_key.is_complete(&key) {
            return Err(Refusal::bad("the partition key has the wrong number of values"));
        }
        Ok(key)
    }

    /// What a query or a feed is limited to.
    pub(super) fn scope(&self, request: &Request) -> Result<feed::Scope, Refusal> {
        if let Some(header) = request.header("x-ms-documentdb-partitionkey") {
            let key = PartitionKey::parse(header)?;
            let paths = self.partition_key.paths.len();
            return match key.0.len().cmp(&paths) {
                std::cmp::Ordering::Equal => Ok(feed::Scope::Partition(key)),
                std::cmp::Ordering::Less => Ok(feed::Scope::Prefix(key)),
                std::cmp::Ordering::Greater => {
                    Err(Refusal::bad("the partition key has too many values"))
                }
            };
        }
        let bound = |name: &str| match request.header(name) {
            None => Ok(None),
            Some(text) => epk_from_hex(text.trim_matches('"'))
                .map(Some)
                .ok_or_else(|| Refusal::bad("an effective partition key is not hexadecimal")),
        };
        let (mut min, mut max) = (bound("x-ms-start-epk")?, bound("x-ms-end-epk")?);
        if let Some(range) = self.range.filter(|_| !self.ranges.is_one()) {
            let (first, end) = self.ranges.bounds(range);
            min = Some(min.map_or_else(|| first.clone(), |min| min.max(first.clone())));
            max = Some(max.map_or_else(|| end.clone(), |max| max.min(end.clone())));
        }
        match (min, max) {
            (None, None) => Ok(feed::Scope::All),
            (min, max) => Ok(feed::Scope::Range {
                min: min.unwrap_or_default(),
                max: max.unwrap_or_else(|| vec![0xFF]),
            }),
        }
    }
}

/// The highest log sequence number in a session token such as `0:-1#17` or `0:1#17#0=12`, as far
/// as it is about ranges that exist; `None` when it is not a session token.
fn session_lsn(token: &str, ranges: Ranges) -> Option<u64> {
    let mut highest = 0;
    for part in token.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (range, rest) = part.split_once(':')?;
        let lsn: u64 = rest.split('#').nth(1).unwrap_or(rest).parse().ok()?;
        let known = range.parse::<u16>().is_ok_and(|range| range < ranges.count());
        if known {
            highest = highest.max(lsn);
        }
    }
    Some(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_tokens_of_all_forms() {
        for (token, lsn) in [
            ("0:17", Some(17)),
            ("0:-1#17", Some(17)),
            ("0:1#17#0=12", Some(17)),
            ("1:-1#9", Some(0)),
            ("0:3,0:-1#5", Some(5)),
            ("", Some(0)),
            ("x", None),
            ("0:x", None),
        ] {
            assert_eq!(session_lsn(token, Ranges::ONE), lsn, "{token}");
        }
        assert_eq!(session_lsn("1:-1#9", Ranges::new(2)), Some(9));
    }
}
