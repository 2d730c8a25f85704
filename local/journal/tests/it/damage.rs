//! Torn tails, damage in the middle, and what a repair keeps.

use std::fs;
use std::path::PathBuf;

use journal::{Damage, Log, OpenError, Opened, Options, repair};

use crate::scratch::Scratch;

/// A log of one segment with `records` frames, one record of 100 bytes each.
fn written(records: u8) -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let (log, ..) = scratch.open();
    for n in 0..records {
        let appended = log.append(&[n + 1; 100]).unwrap();
        log.wait_blocking(appended.position).unwrap();
    }
    drop(log);
    let path = scratch.files("log").remove(0);
    (scratch, path)
}

const FRAME_BYTES: usize = 16 + 4 + 100;
const HEADER_BYTES: usize = 20;

fn open(scratch: &Scratch) -> Result<Opened, OpenError> {
    Log::open(scratch.path(), Options::default(), |_, _| Ok(())).map(|(_, opened)| opened)
}

#[test]
fn a_tail_that_is_torn_anywhere_is_cut_off_and_reported() {
    let (scratch, path) = written(3);
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len(), HEADER_BYTES + 3 * FRAME_BYTES);
    for cut in HEADER_BYTES..whole.len() {
        let copy = scratch.copy();
        let path = copy.path().join(path.file_name().unwrap());
        fs::write(&path, &whole[..cut]).unwrap();
        let (records, torn) =
            ((cut - HEADER_BYTES) / FRAME_BYTES, (cut - HEADER_BYTES) % FRAME_BYTES);
        let opened = Opened { records: records as u64, torn_bytes: torn as u64 };
        assert_eq!(open(&copy).unwrap(), opened, "cut at {cut}");
        // It is gone, and what comes next is found.
        let (log, seen, again) = copy.open();
        assert_eq!((seen.len(), again.torn_bytes), (records, 0));
        log.append(b"next").unwrap();
        drop(log);
        assert_eq!(copy.open().2.records, records as u64 + 1);
    }
    // A header that is not whole, and space that was reserved and never written.
    fs::write(&path, &whole[..7]).unwrap();
    assert_eq!(open(&scratch).unwrap(), Opened { records: 0, torn_bytes: 7 });
    let mut reserved = whole.clone();
    reserved.truncate(HEADER_BYTES + 2 * FRAME_BYTES + 50);
    reserved.resize(4_096, 0);
    fs::write(&path, &reserved).unwrap();
    let opened = open(&scratch).unwrap();
    assert_eq!((opened.records, opened.torn_bytes), (2, 4_096 - 20 - 240));
}

#[test]
fn any_other_byte_that_changed_stops_the_start_and_a_repair_keeps_the_rest() {
    let (scratch, path) = written(3);
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let copy = scratch.copy();
        let path = copy.path().join(path.file_name().unwrap());
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        fs::write(&path, &bytes).unwrap();
        let Err(OpenError::Damaged { path: named, offset, damage }) = open(&copy) else {
            panic!("byte {at} went unnoticed");
        };
        let frame = at.checked_sub(HEADER_BYTES).map(|at| at / FRAME_BYTES);
        let start = frame.map_or(0, |frame| HEADER_BYTES + frame * FRAME_BYTES);
        assert_eq!((named, offset), (path.clone(), start as u64), "{damage}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "a start changes nothing");

        let repaired = repair(copy.path()).unwrap();
        assert_eq!(repaired.losses.len(), 1);
        assert_eq!(repaired.losses[0].offset, start as u64);
        let lost = usize::from(frame.is_some());
        assert_eq!(repaired.frames_kept, 3 - lost as u64);
        let (_, seen, _) = copy.open();
        let left: Vec<u8> = seen.iter().map(|(record, _)| record[0] - 1).collect();
        let expected: Vec<u8> = (0..3).filter(|n| Some(usize::from(*n)) != frame).collect();
        assert_eq!(left, expected);
        let mut kept = path.into_os_string();
        kept.push(".damaged");
        assert_eq!(fs::read(kept).unwrap(), bytes);
        assert_eq!(repair(copy.path()).unwrap().losses, []);
    }
}

#[test]
fn a_segment_before_the_last_may_not_be_torn_or_missing() {
    let options = Options { segment_bytes: 200, ..Options::default() };
    let scratch = Scratch::new();
    let (log, ..) = scratch.open_with(options);
    for n in 0..6_u8 {
        let appended = log.append(&[n; 100]).unwrap();
        log.wait_blocking(appended.position).unwrap();
    }
    drop(log);
    let segments = scratch.files("log");
    assert_eq!(segments.len(), 3);
    let torn = scratch.copy();
    let first = torn.files("log").remove(0);
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[..bytes.len() - 1]).unwrap();
    let error = open(&torn).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { damage: Damage::CutShort, .. }), "{error}");
    assert_eq!(repair(torn.path()).unwrap().frames_kept, 5);
    assert_eq!(open(&torn).unwrap().records, 5);

    fs::remove_file(&segments[1]).unwrap();
    let error = open(&scratch).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { damage: Damage::Missing, .. }), "{error}");
    assert_eq!(repair(scratch.path()).unwrap().losses[0].path, segments[1]);
    assert_eq!(open(&scratch).unwrap().records, 4);
}

#[test]
fn a_damaged_snapshot_is_not_started_from() {
    let (scratch, _) = written(3);
    let (log, ..) = scratch.open();
    let mut snapshot = log.snapshot().unwrap().unwrap();
    snapshot.append(&[9; 300]).unwrap();
    snapshot.commit().unwrap().discard().unwrap();
    drop(log);
    let path = scratch.files("snapshot").remove(0);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 16]).unwrap();
    let error = open(&scratch).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { damage: Damage::Incomplete, .. }), "{error}");
    assert_eq!(repair(scratch.path()).unwrap().losses.len(), 1);
    assert_eq!(open(&scratch).unwrap().records, 1);
}

#[test]
fn there_must_be_something_to_repair() {
    let scratch = Scratch::new();
    assert!(matches!(repair(scratch.path()), Err(OpenError::File { .. })));
    assert!(!scratch.path().exists());
}
