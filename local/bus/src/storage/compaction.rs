//! Writing the state down, so that the journal that led to it can go.

use std::io;

use journal::Log;

use super::codec::Group;
use crate::broker::Broker;
use crate::broker::record::Record;
use crate::broker::recovery::Cursor;

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
    loop {
        if !group.is_empty() {
            snapshot.append(group.finish(false))?;
            group.clear();
        }
        if cursor.is_at_end() {
            break;
        }
        with(&mut |broker| broker.capture(&mut cursor, &mut |record| group.put(record)));
    }
    snapshot.commit()?.discard()?;
    Ok(true)
}
