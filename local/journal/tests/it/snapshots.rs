//! Snapshots: what they replace, and what happens while one is written.

use std::fs;

use crate::scratch::Scratch;

#[test]
fn a_snapshot_replaces_what_came_before_it() {
    let scratch = Scratch::new();
    let (log, ..) = scratch.open();
    assert!(log.bytes_since_snapshot() == 0);
    let old = log.append(b"old").unwrap().location;
    let mut snapshot = log.snapshot().unwrap().unwrap();
    let new = log.append(b"new").unwrap().location;
    let place = snapshot.append(b"state").unwrap();
    let committed = snapshot.commit().unwrap();
    assert!(committed.replaces(old) && !committed.replaces(new) && !committed.replaces(place));
    assert_eq!(log.read(old, 3).unwrap(), b"old");
    committed.discard().unwrap();
    assert!(log.read(old, 3).is_err());
    assert_eq!(log.read(place, 5).unwrap(), b"state");
    assert_eq!(log.read(new, 3).unwrap(), b"new");
    log.close().unwrap();
    let (log, seen, _) = scratch.open();
    let seen: Vec<_> = seen.into_iter().map(|(record, _)| record).collect();
    assert_eq!(seen, [b"state".to_vec(), b"new".to_vec()]);
    assert_eq!((scratch.files("snapshot").len(), scratch.files("log").len()), (1, 1));
    // The same again, until there is nothing new.
    log.snapshot().unwrap().unwrap().commit().unwrap().discard().unwrap();
    assert!(log.snapshot().unwrap().is_none());
    drop(log);
    let (log, seen, _) = scratch.open();
    assert!(seen.is_empty() && log.snapshot().unwrap().is_none());
}

#[test]
fn a_snapshot_that_was_not_finished_never_was() {
    let scratch = Scratch::new();
    let (log, ..) = scratch.open();
    log.append(b"one").unwrap();
    let mut snapshot = log.snapshot().unwrap().unwrap();
    snapshot.append(&vec![1; 3_000_000]).unwrap();
    log.append(b"two").unwrap();
    // As a crash leaves it.
    let copy = {
        log.wait_blocking(2).unwrap();
        scratch.copy()
    };
    assert_eq!(copy.files("tmp").len(), 1);
    drop(snapshot);
    assert!(scratch.files("tmp").is_empty());
    assert_eq!(copy.open().2.records, 2);
    assert!(copy.files("tmp").is_empty());
    // The next one takes its place.
    log.snapshot().unwrap().unwrap().commit().unwrap();
    drop(log);
    assert_eq!(scratch.open().2.records, 0);
    assert!(scratch.files("log").is_empty(), "deleted by the start that found them superfluous");
    assert!(fs::read_dir(scratch.path()).unwrap().count() <= 2);
}

#[test]
fn what_a_snapshot_replaces_goes_piece_by_piece_and_may_be_left_halfway() {
    let scratch = Scratch::new();
    let (log, ..) = scratch.open();
    log.append(&vec![1; 3_000_000]).unwrap();
    let mut snapshot = log.snapshot().unwrap().unwrap();
    snapshot.append(b"state").unwrap();
    let committed = snapshot.commit().unwrap();
    log.append(b"new").unwrap();
    log.wait_blocking(2).unwrap();
    // A crash after the first piece.
    let copy = scratch.copy();
    let first = fs::File::options().write(true).open(&copy.files("log")[0]).unwrap();
    first.set_len(2_000_000).unwrap();
    let (_, seen, opened) = copy.open();
    assert_eq!((seen.len(), opened.torn_bytes, copy.files("log").len()), (2, 0, 1));
    // A second name shows what is left of the file when the first one goes.
    let (name, second) = (&scratch.files("log")[0], scratch.path().join("second"));
    fs::hard_link(name, &second).unwrap();
    // Appended to from elsewhere meanwhile.
    std::thread::scope(|scope| {
        let discarding = scope.spawn(|| committed.discard());
        while !discarding.is_finished() {
            let appended = log.append(b"more").unwrap();
            log.wait_blocking(appended.position).unwrap();
        }
        discarding.join().unwrap().unwrap();
    });
    assert_eq!((scratch.files("log").len(), scratch.files("snapshot").len()), (1, 1));
    assert!(fs::metadata(second).unwrap().len() < 1_000_000);
}
