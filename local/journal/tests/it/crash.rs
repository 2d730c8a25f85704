//! Random histories with snapshots and crashes, against a map that forgets nothing it was promised.

use std::collections::BTreeMap;

use journal::{Log, Options, Snapshot};
use proptest::prelude::*;

use crate::scratch::Scratch;

type Map = BTreeMap<u8, u16>;

#[derive(Debug, Clone, Copy)]
enum Step {
    Set {
        key: u8,
        value: u16,
    },
    Remove {
        key: u8,
    },
    /// Starts a snapshot, or writes a part of the one that was started.
    Snapshot,
    /// The process dies; of the last frame, if it was not durable, this many bytes are left.
    Crash {
        left: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..20_u8, any::<u16>()).prop_map(|(key, value)| Step::Set { key, value }),
        4 => (0..20_u8).prop_map(|key| Step::Remove { key }),
        4 => Just(Step::Snapshot),
        1 => any::<u8>().prop_map(|left| Step::Crash { left }),
    ]
}

fn apply(map: &mut Map, record: &[u8]) {
    match *record {
        [key, a, b] => drop(map.insert(key, u16::from_le_bytes([a, b]))),
        [key] => drop(map.remove(&key)),
        _ => panic!("{record:?}"),
    }
}

/// A started snapshot and the first key that is not in it.
type Started = Option<(Snapshot, u8)>;

fn advance(log: &Log, map: &Map, started: &mut Started) {
    let Some((mut snapshot, from)) = started.take() else {
        *started = log.snapshot().unwrap().map(|snapshot| (snapshot, 0));
        return;
    };
    // The state as it is by now, a few keys at a time.
    for (key, value) in map.range(from..from + 7) {
        let [a, b] = value.to_le_bytes();
        snapshot.append(&[*key, a, b]).unwrap();
    }
    if from + 7 < 20 {
        *started = Some((snapshot, from + 7));
    } else {
        snapshot.commit().unwrap().discard().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_durable_is_ever_lost(
        steps in proptest::collection::vec(step(), 1..150)
    ) {
        let options = Options { fsync: false, segment_bytes: 300 };
        let mut scratch = Scratch::new();
        let (mut log, ..) = scratch.open_with(options);
        let mut map = Map::new();
        let mut started: Started = None;
        for step in steps {
            let record = match step {
                Step::Set { key, value } => {
                    let [a, b] = value.to_le_bytes();
                    vec![key, a, b]
                }
                Step::Remove { key } => vec![key],
                Step::Snapshot => {
                    advance(&log, &map, &mut started);
                    continue;
                }
                Step::Crash { left } => {
                    let position = log.durable().borrow().position;
                    log.wait_blocking(position).unwrap();
                    let last = log.append(&[99, 9, 9]).unwrap();
                    log.wait_blocking(last.position).unwrap();
                    // The frame of that last record was being written when the lights went out.
                    let copy = scratch.copy();
                    let path = copy.files("log").pop().unwrap();
                    let bytes = std::fs::read(&path).unwrap();
                    let torn = 16 + 4 + 3;
                    let kept = bytes.len() - torn + usize::from(left) % torn;
                    std::fs::write(&path, &bytes[..kept]).unwrap();
                    started = None;
                    drop(log);
                    scratch = copy;
                    let seen;
                    (log, seen, _) = scratch.open_with(options);
                    let mut again = Map::new();
                    seen.iter().for_each(|(record, _)| apply(&mut again, record));
                    prop_assert_eq!(&again, &map);
                    continue;
                }
            };
            apply(&mut map, &record);
            let appended = log.append(&record).unwrap();
            log.wait_blocking(appended.position).unwrap();
        }
        drop(started);
        drop(log);
        let mut again = Map::new();
        scratch.open().1.iter().for_each(|(record, _)| apply(&mut again, record));
        prop_assert_eq!(again, map);
    }
}
