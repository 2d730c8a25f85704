//! Applying what the journal hands back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use journal::Location;

use super::codec::read_group;
use super::input::CodecError;
use crate::broker::Broker;
use crate::broker::body::{Shelf, Stored};
use crate::broker::record::{QueueId, Record};

/// Where a journal's place is by now.
enum Place {
    Here(QueueId),
    /// Nobody declares it any more.
    Undeclared(Arc<str>),
}

/// What has to be remembered between one record of the journal and the next.
#[derive(Default)]
pub(crate) struct Replay {
    places: HashMap<u32, Place>,
    /// Records of a group that is not complete yet.
    group: Vec<(Record, Option<Stored>)>,
    /// Messages in places that nobody declares any more, by path.
    undeclared: BTreeMap<Arc<str>, isize>,
}

impl Replay {
    /// Applies one record of the journal, which is at `at`. Messages that are too many for memory
    /// are left there.
    pub(crate) fn group(
        &mut self,
        broker: &mut Broker,
        bytes: &[u8],
        shelf: Option<(&Arc<dyn Shelf>, Location)>,
    ) -> Result<(), CodecError> {
        let mut group = std::mem::take(&mut self.group);
        let continues = read_group(bytes, |record, span| {
            let stored = shelf.zip(span).map(|((_, at), (start, length))| {
                let at = at.plus(start);
                Stored { at, length }
            });
            group.push((record, stored));
        })?;
        if !continues {
            for (mut record, stored) in group.drain(..) {
                let message = match &record {
                    Record::Enqueued { sequence, .. } | Record::Unlocked { sequence, .. } => {
                        *sequence
                    }
                    _ => 0,
                };
                let place = self.here(&mut record);
                self.apply(broker, record);
                if let (Some(place), Some(stored), Some((shelf, _))) = (place, stored, shelf) {
                    broker.put_away_on(shelf, [(place, message, stored)]);
                }
            }
        }
        self.group = group;
        Ok(())
    }

    /// Where the place of a record is by now.
    fn here(&self, record: &mut Record) -> Option<QueueId> {
        match self.places.get(&record.queue_mut()?.0) {
            Some(Place::Here(id)) => Some(*id),
            _ => None,
        }
    }

    fn apply(&mut self, broker: &mut Broker, mut record: Record) {
        if let Record::Declared { queue, path } = record {
            let place = match broker.place_of(&path) {
                Some(id) => Place::Here(id),
                None => Place::Undeclared(path),
            };
            self.places.insert(queue.0, place);
            return;
        }
        if let Some(queue) = record.queue_mut() {
            match self.places.get(&queue.0) {
                Some(Place::Here(id)) => *queue = *id,
                Some(Place::Undeclared(path)) => {
                    let change = match record {
                        Record::Enqueued { .. } => 1,
                        Record::Removed { .. } => -1,
                        _ => 0,
                    };
                    *self.undeclared.entry(Arc::clone(path)).or_default() += change;
                    return;
                }
                // Every run declares its places first.
                None => return,
            }
        }
        broker.restore(record);
    }

    /// Messages that were passed over, by path.
    pub(super) fn undeclared(&self) -> Vec<(String, usize)> {
        let some = |(path, count): (&Arc<str>, &isize)| {
            let count = usize::try_from(*count).ok().filter(|count| *count > 0)?;
            Some(((**path).to_owned(), count))
        };
        self.undeclared.iter().filter_map(some).collect()
    }
}
