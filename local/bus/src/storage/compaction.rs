//! Writing the state down, so that the journal that led to it can go.

use std::io;

use journal::Log;

use super::codec::Group;
use crate::broker::Broker;
use crate::broker::body::Stored;
use crate::broker::record::{QueueId, Record};
use crate::broker::recovery::Cursor;
use crate::limits::CAPTURE_ITEMS;

/// Runs a command on the broker, under its lock.
pub(crate) type With<'a> = dyn Fn(&mut dyn FnMut(&mut Broker)) + 'a;

/// Writes a snapshot of the broker and deletes what it stands for; `false` if nothing came since
/// the last one. `with` runs a command on the broker, once for every piece: others come in between.
///
/// # Errors
/// The disk does not take it. The journal goes on without it.
pub(crate) fn compact(log: &Log, with: &With<'_>) -> io::Result<bool> {
    let mut group = Group::default();
    let mut started = Ok(None);
    let mut cursor = Cursor::default();
    with(&mut |broker| {
        started = log.snapshot();
        if let Ok(Some(_)) = started {
            cursor = broker.capture_entities(&mut |record: &Record| group.put(record));
        }
    });
    let Some(mut snapshot) = started? else { return Ok(false) };
    // Without it nothing else can be read: it is there twice, each in a frame of its own.
    if !group.is_empty() {
        let entities = group.finish(false).to_vec();
        group.clear();
        for _ in 0..2 {
            snapshot.append(&entities)?;
            snapshot.end_frame()?;
        }
    }
    // What is on disk anyway moves with the files: from where to where.
    let mut moves: Vec<Move> = Vec::new();
    let mut olds: Vec<Option<Stored>> = Vec::new();
    loop {
        if !group.is_empty() {
            let at = snapshot.append(group.finish(false))?;
            for (&(queue, sequence, (start, length)), old) in group.stored().iter().zip(&olds) {
                if let Some(old) = old {
                    let new = Stored { at: at.plus(start), length };
                    moves.push(Move { queue, sequence, old: *old, new });
                }
            }
            group.clear();
            olds.clear();
        }
        if cursor.is_at_end() {
            break;
        }
        with(&mut |broker| {
            broker.capture(&mut cursor, &mut |record| group.put(record));
            let stored = group.stored().iter();
            olds = stored.map(|(queue, sequence, _)| broker.stored(*queue, *sequence)).collect();
        });
    }
    let committed = snapshot.commit()?;
    for some in moves.chunks(CAPTURE_ITEMS) {
        with(&mut |broker| {
            for Move { queue, sequence, old, new } in some {
                if committed.replaces(old.at) && broker.stored(*queue, *sequence) == Some(*old) {
                    broker.move_stored(*queue, *sequence, *new);
                }
            }
        });
    }
    committed.discard()?;
    Ok(true)
}

/// A message that is found elsewhere once the snapshot is there.
struct Move {
    queue: QueueId,
    sequence: i64,
    old: Stored,
    new: Stored,
}
