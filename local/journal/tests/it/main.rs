//! The log as its owner meets it, on a real disk: what comes back after an end of any kind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crash;
mod damage;
mod scratch;
mod snapshots;

use journal::{Failed, Log, OpenError, Opened, Options};

use crate::scratch::Scratch;

#[tokio::test]
async fn records_come_back_in_order_and_from_where_they_are() {
    let scratch = Scratch::new();
    let (log, seen, opened) = scratch.open();
    assert_eq!((seen.len(), opened), (0, Opened::default()));
    let mut places = Vec::new();
    for n in 0..100_u8 {
        let appended = log.append(&[n; 10]).unwrap();
        assert_eq!(appended.position, u64::from(n) + 1);
        // Whether it is on the disk already or not.
        assert_eq!(log.read(appended.location, 10).unwrap(), [n; 10]);
        places.push(appended.location);
    }
    log.wait(100).await.unwrap();
    assert_eq!(log.durable().borrow().position, 100);
    for (n, place) in (0_u8..).zip(&places) {
        assert_eq!(log.read(place.plus(3), 7).unwrap(), [n; 7]);
    }
    assert_eq!(log.waiting_bytes(), 16, "only the next frame's header");
    log.close().unwrap();
    let (log, seen, opened) = scratch.open();
    assert_eq!(opened, Opened { records: 100, torn_bytes: 0 });
    for (n, (record, place)) in (0_u8..).zip(seen) {
        assert_eq!(record, [n; 10]);
        assert_eq!(log.read(place, 10).unwrap(), record);
    }
}

#[tokio::test]
async fn one_write_covers_what_waited_together() {
    let scratch = Scratch::new();
    let (log, ..) = scratch.open();
    let records = 20_000_u64;
    for n in 0..records {
        log.append(&n.to_le_bytes()).unwrap();
    }
    log.wait(records).await.unwrap();
    log.close().unwrap();
    let frames = scratch.frames();
    assert!(frames < records / 4, "{frames} frames for {records} records");
    assert_eq!(scratch.open().2.records, records);
}

#[test]
fn segments_follow_each_other() {
    let scratch = Scratch::new();
    let options = Options { segment_bytes: 1_000, ..Options::default() };
    for start in 1..=3_u64 {
        let (log, seen, _) = scratch.open_with(options);
        assert_eq!(seen.len() as u64, (start - 1) * 50);
        for n in 0..50_u8 {
            let appended = log.append(&[n; 100]).unwrap();
            log.wait_blocking(appended.position).unwrap();
        }
    }
    assert!(scratch.files("log").len() >= 12);
    assert_eq!(scratch.open().2.records, 150);
}

#[test]
fn there_is_one_owner_and_records_have_a_limit() {
    let scratch = Scratch::new();
    let (log, ..) = scratch.open();
    let second = Log::open(scratch.path(), Options::default(), |_, _| Ok(()));
    assert!(matches!(second, Err(OpenError::Locked(_))));
    let large = vec![7; journal::limits::RECORD_BYTES_MAX + 1];
    assert!(log.append(&large).is_err());
    for _ in 0..3 {
        log.append(&large[1..]).unwrap();
    }
    log.close().unwrap();
    assert_eq!(scratch.open().2.records, 3);
}

#[test]
fn what_the_owner_does_not_understand_names_its_place() {
    let scratch = Scratch::new();
    let (log, ..) = scratch.open();
    log.append(b"riddle").unwrap();
    log.close().unwrap();
    let error = Log::open(scratch.path(), Options::default(), |_, _| Err("no idea".into()));
    let Err(OpenError::Record { offset, source, .. }) = error else { panic!("{error:?}") };
    assert_eq!((offset, source.to_string().as_str()), (40, "no idea"));
}

#[tokio::test]
async fn a_disk_that_fails_is_told_to_everybody_who_waits() {
    let scratch = Scratch::new();
    let (log, ..) = scratch.open();
    std::fs::remove_dir_all(scratch.path()).unwrap();
    let appended = log.append(b"lost").unwrap();
    let Err(Failed(error)) = log.wait(appended.position).await else { panic!("durable") };
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(log.wait_blocking(appended.position).is_err());
    assert!(log.close().is_err());
}
