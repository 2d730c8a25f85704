//! Replays of dead letters: how a repeated message is named, and how often it may be repeated.
//!
//! A replay is a new message. Under its old id the topic would take it for a duplicate, accept it
//! and drop it. The new id is a function of the dead letter alone, so whoever replays the same
//! dead letter again, at once or after a crash, sends the same id, and the topic keeps one:
//!
//! ```text
//! <root>#<source>.<number>#r<k>     event:0189…:1#billing-sub.7#r1
//! ```
//!
//! `root` is the id that the very first message had, `source` and `number` name the dead letter
//! (two subscriptions may hold one of the same message, and their replays are no duplicates of
//! each other), `k` counts the replays since the root. The count is read back from the id as well
//! as from the property: a delayed copy of a replay keeps the one and not the other.

use sha2::{Digest as _, Sha256};

/// How often one message may be replayed. Whoever fails five times in a row fails for a reason
/// that a sixth time does not cure; the message has to be edited or discarded.
pub const REPLAYS_MAX: u32 = 5;

/// Characters of a message id that Service Bus takes.
const MESSAGE_ID_CHARS_MAX: usize = 128;

/// Characters that a root may have, so that what is added still fits: source, a 19-digit number
/// and the count.
const ROOT_CHARS_MAX: usize = 80;

/// Hexadecimal digits of a hash that stands in for a longer root: 128 bits.
const ROOT_HASH_CHARS: usize = 32;

/// Where a dead letter comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The id of the first message of all.
    pub root: String,
    /// Replays since then.
    pub replays: u32,
}

impl Lineage {
    /// Reads a dead letter's lineage from its own id, from the message that it goes back to, and
    /// from the count that it carries.
    #[must_use]
    pub fn of(message_id: &str, original_message_id: Option<&str>, replay_count: u32) -> Self {
        let mut lineage = Self { root: message_id.to_owned(), replays: replay_count };
        // The id of a delayed copy is of no use; the message that it goes back to is.
        let named = original_message_id.into_iter().chain([message_id]);
        for (at, id) in named.enumerate() {
            if let Some((root, replays)) = parse(id) {
                lineage.replays = lineage.replays.max(replays);
                root.clone_into(&mut lineage.root);
                break;
            }
            if at == 0 {
                id.clone_into(&mut lineage.root);
            }
        }
        lineage
    }

    /// The count of the next replay, or `None` when there have been enough.
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        (self.replays < REPLAYS_MAX).then_some(self.replays + 1)
    }

    /// The id of the replay `count` of the dead letter `number` of `source`.
    #[must_use]
    pub fn message_id(&self, source: &str, number: i64, count: u32) -> String {
        let id = format!("{}#{source}.{number}#r{count}", shortened(&self.root));
        debug_assert!(id.chars().count() <= MESSAGE_ID_CHARS_MAX, "{id}");
        id
    }
}

fn shortened(root: &str) -> String {
    if root.chars().count() <= ROOT_CHARS_MAX {
        return root.to_owned();
    }
    let mut hash: String =
        Sha256::digest(root.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    hash.truncate(ROOT_HASH_CHARS);
    hash
}

/// Root and count of an id that [`Lineage::message_id`] made.
fn parse(id: &str) -> Option<(&str, u32)> {
    let (rest, count) = id.rsplit_once("#r")?;
    let (root, letter) = rest.rsplit_once('#')?;
    let (source, number) = letter.rsplit_once('.')?;
    number.parse::<i64>().ok()?;
    let count = count.parse().ok()?;
    (!root.is_empty() && !source.is_empty()).then_some((root, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "event:01890a5d-ac96-774b-bcce-b302099a8057:1";

    #[test]
    fn a_replay_of_a_replay_goes_back_to_the_first_message_and_counts_on() {
        let first = Lineage::of(EVENT, None, 0);
        assert_eq!(first, Lineage { root: EVENT.to_owned(), replays: 0 });
        let once = first.message_id("billing-sub", 7, first.next().unwrap());
        assert_eq!(once, format!("{EVENT}#billing-sub.7#r1"));
        // It fails again as it is, or as a delayed copy that has lost the count.
        let second = Lineage::of(&once, Some(EVENT), 1);
        let copied = Lineage::of(&format!("{once}~billing-sub~2"), Some(&once), 0);
        assert_eq!((&second.root[..], second.replays), (EVENT, 1));
        assert_eq!(second, copied);
        assert_eq!(second.message_id("billing-sub", 9, 2), format!("{EVENT}#billing-sub.9#r2"));
        let delayed = Lineage::of(&format!("{EVENT}~billing-sub~1"), Some(EVENT), 0);
        assert_eq!(delayed, first);
    }

    #[test]
    fn two_dead_letters_never_share_an_id_and_the_loop_ends() {
        let lineage = Lineage::of(EVENT, None, 0);
        let ids = [("billing-sub", 7, 1), ("inventory-sub", 7, 1), ("billing-sub", 8, 1)]
            .map(|(source, number, count)| lineage.message_id(source, number, count));
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
        assert_eq!(Lineage { replays: REPLAYS_MAX - 1, ..lineage.clone() }.next(), Some(5));
        assert_eq!(Lineage { replays: REPLAYS_MAX, ..lineage }.next(), None);
    }

    #[test]
    fn foreign_ids_are_taken_as_they_are_and_cut_to_what_the_broker_takes() {
        for id in ["a#b", "#x.1#r1", "a#b#r1", "a#b.c#r1", "a#b.1#rx", "a#b.1#r-1", ""] {
            assert_eq!(Lineage::of(id, None, 0), Lineage { root: id.to_owned(), replays: 0 });
        }
        let long = "x".repeat(500);
        let id = Lineage::of(&long, None, 0).message_id("notification-sub", i64::MAX, 5);
        assert!(id.len() <= MESSAGE_ID_CHARS_MAX, "{id}");
        assert_ne!(
            id,
            Lineage::of(&"y".repeat(500), None, 0).message_id("notification-sub", i64::MAX, 5)
        );
    }
}
