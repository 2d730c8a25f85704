//! The book by itself: what each request comes to, and what no sequence of requests can bring
//! about.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;

/// A book together with every line that it has taken.
#[derive(Default)]
struct Bench {
    book: Book,
    lines: Vec<Entry>,
}

impl Bench {
    /// Carries out what was decided; whether anything was new.
    fn carry_out(&mut self, key: &str, decision: Decision) -> (Standing, bool) {
        let effects = match decision {
            Decision::New(effects) => effects,
            Decision::Repeated => return (self.book.answer(key).unwrap(), false),
        };
        assert!(!effects.is_empty());
        for effect in effects {
            let sequence = self.book.lines() + 1;
            let at = OffsetDateTime::from_unix_timestamp(i64::try_from(sequence).unwrap()).unwrap();
            let entry = Entry { sequence, at, key: key.to_owned(), effect };
            self.book.apply(&entry).unwrap();
            self.lines.push(entry);
        }
        (self.book.answer(key).unwrap(), true)
    }

    fn charge(&mut self, key: &str, charge: &Charge) -> Result<(State, bool), Refusal> {
        let decline = (charge.instrument.as_deref() == Some("bad")).then_some("no");
        let decision = self.book.charge(key, charge, decline)?;
        let (standing, is_new) = self.carry_out(key, decision);
        Ok((standing.state, is_new))
    }

    fn cancel(&mut self, key: &str, reference: &str) -> Result<(State, bool), Refusal> {
        let decision = self.book.cancel(key, reference)?;
        let (standing, is_new) = self.carry_out(key, decision);
        Ok((standing.state, is_new))
    }
}

fn charge(reference: &str, amount_minor: u64, instrument: Option<&str>) -> Charge {
    Charge {
        reference: reference.to_owned(),
        amount_minor,
        currency: "EUR".to_owned(),
        customer: "c".to_owned(),
        instrument: instrument.map(str::to_owned),
    }
}

#[test]
fn a_key_charges_once_and_another_key_charges_again() {
    let mut bench = Bench::default();
    let once = charge("r", 500, None);
    assert_eq!(bench.charge("k1", &once), Ok((State::Captured, true)));
    assert_eq!(bench.charge("k1", &once), Ok((State::Captured, false)));
    assert_eq!(bench.charge("k1", &charge("r", 501, None)), Err(Refusal::KeyReused));
    assert_eq!(bench.cancel("k1", "r"), Err(Refusal::KeyReused));
    assert!(bench.book.summary().multiply_captured.is_empty());
    assert_eq!(bench.charge("k2", &once), Ok((State::Captured, true)));
    assert_eq!(bench.book.account("r").unwrap().captures, 2);
    assert!(bench.book.summary().multiply_captured.contains("r"));

    assert_eq!(bench.cancel("x", "r"), Ok((State::Refunded, true)));
    assert_eq!(bench.cancel("x", "r"), Ok((State::Refunded, false)));
    assert_eq!(bench.charge("k1", &once), Ok((State::Refunded, false)), "the caller is told");
    assert_eq!(bench.charge("x", &once), Err(Refusal::KeyReused));
    assert_eq!(bench.cancel("x", "other"), Err(Refusal::KeyReused));
    let summary = bench.book.summary();
    assert_eq!((summary.captured_minor, summary.refunded_minor), (1000, 1000));
    assert!(summary.multiply_captured.is_empty());
    assert_eq!(bench.lines.len(), 4, "two charges, two refunds");
}

#[test]
fn a_cancellation_that_comes_first_stays() {
    let mut bench = Bench::default();
    assert_eq!(bench.cancel("x", "r"), Ok((State::Voided, true)));
    assert_eq!(bench.cancel("y", "r"), Ok((State::Voided, true)));
    assert_eq!(bench.charge("k", &charge("r", 500, None)), Ok((State::Voided, true)));
    assert_eq!(bench.charge("k", &charge("r", 500, None)), Ok((State::Voided, false)));
    let bad = charge("r", 500, Some("bad"));
    assert_eq!(bench.charge("k2", &bad), Ok((State::Voided, true)));
    let account = bench.book.account("r").unwrap();
    assert_eq!((account.standing.state, account.captures), (State::Voided, 0));
    let summary = bench.book.summary();
    assert_eq!((summary.voided, summary.charges, summary.captured), (1, 2, 0));
}

#[test]
fn a_decline_stays_declined_under_its_key() {
    let mut bench = Bench::default();
    let bad = charge("r", 500, Some("bad"));
    assert_eq!(bench.charge("k", &bad), Ok((State::Declined, true)));
    assert_eq!(bench.cancel("x", "r"), Ok((State::Declined, true)));
    let standing = &bench.book.account("r").unwrap().standing;
    assert_eq!((standing.state, standing.reason.as_deref()), (State::Declined, Some("no")));
    // With another card it works, and what happened before stays what it was.
    assert_eq!(bench.charge("k2", &charge("r", 500, None)), Ok((State::Captured, true)));
    assert_eq!(bench.charge("k", &bad), Ok((State::Declined, false)));
    assert_eq!(bench.cancel("x", "r"), Ok((State::Declined, false)), "the key is bound");
    assert_eq!(bench.book.account("r").unwrap().standing.state, State::Captured);
}

#[test]
fn a_reference_holds_so_many_charges_and_no_more() {
    let mut bench = Bench::default();
    let once = charge("r", 1, None);
    for number in 0..limits::HELD_MAX {
        bench.charge(&format!("k{number}"), &once).unwrap();
    }
    assert_eq!(bench.charge("one-more", &once), Err(Refusal::TooMany));
    assert_eq!(bench.cancel("x", "r"), Ok((State::Refunded, true)));
    assert_eq!(bench.charge("one-more", &once), Ok((State::Captured, true)));
}

#[test]
fn a_cancellation_that_was_cut_off_is_finished_under_the_same_key() {
    let mut bench = Bench::default();
    bench.charge("k1", &charge("r", 1, None)).unwrap();
    bench.charge("k2", &charge("r", 2, None)).unwrap();
    bench.cancel("x", "r").unwrap();
    // The second of the two refunds did not reach the disk.
    let lines = bench.lines[..3].to_vec();
    let mut again = Bench::default();
    for line in &lines {
        again.book.apply(line).unwrap();
    }
    assert_eq!(again.book.summary().refunded_minor, 1);
    assert_eq!(again.book.answer("x"), None);
    assert_eq!(again.cancel("x", "r"), Ok((State::Refunded, true)));
    assert_eq!(again.book.summary().refunded_minor, 3);
    assert_eq!(again.cancel("x", "r"), Ok((State::Refunded, false)));
}

/// What a caller may do, over few keys and references so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Charge { key: u8, reference: u8, amount: u64, bad: bool },
    Cancel { key: u8, reference: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let charge = (0..12u8, 0..4u8, 1..3u64, prop::bool::weighted(0.2))
        .prop_map(|(key, reference, amount, bad)| Step::Charge { key, reference, amount, bad });
    let cancel = (0..12u8, 0..4u8).prop_map(|(key, reference)| Step::Cancel { key, reference });
    prop::collection::vec(prop_oneof![3 => charge, 1 => cancel], 0..60)
}

fn run(steps: &[Step]) -> Bench {
    let mut bench = Bench::default();
    for step in steps {
        // A refusal changes nothing, which the comparisons with the lines show.
        let _ = match step {
            Step::Charge { key, reference, amount, bad } => {
                let charge = charge(&format!("r{reference}"), *amount, bad.then_some("bad"));
                bench.charge(&format!("k{key}"), &charge)
            }
            Step::Cancel { key, reference } => {
                bench.cancel(&format!("k{key}"), &format!("r{reference}"))
            }
        };
    }
    bench
}

proptest! {
    #[test]
    fn money_is_taken_once_per_key_and_never_given_back_twice(steps in steps()) {
        let bench = run(&steps);
        let (mut keys, mut voided) = (BTreeSet::new(), BTreeSet::new());
        let (mut held, mut balance) = (BTreeMap::new(), BTreeMap::<&str, (u64, u64)>::new());
        for line in &bench.lines {
            let reference = line.effect.reference();
            let sums = balance.entry(reference).or_default();
            match &line.effect {
                Effect::Captured { charge } => {
                    prop_assert!(keys.insert(&line.key), "a key captured twice");
                    prop_assert!(!voided.contains(reference), "captured though voided");
                    held.insert(line.sequence, charge.amount_minor);
                    sums.0 += charge.amount_minor;
                }
                Effect::Refunded { charge, amount_minor, .. } => {
                    prop_assert_eq!(held.remove(charge), Some(*amount_minor));
                    sums.1 += amount_minor;
                    prop_assert!(sums.1 <= sums.0);
                }
                Effect::Voided { .. } => {
                    prop_assert!(voided.insert(reference));
                }
                Effect::Declined { .. } | Effect::Refused { .. } | Effect::Kept { .. } => {}
            }
        }
        // The summary says what the lines say.
        let summary = bench.book.summary();
        let total = |of: fn(&(u64, u64)) -> u64| balance.values().map(of).sum::<u64>();
        prop_assert_eq!(summary.captured_minor, total(|sums| sums.0));
        prop_assert_eq!(summary.refunded_minor, total(|sums| sums.1));
        prop_assert_eq!(summary.captured - summary.refunded, held.len() as u64);
        let mut count = BTreeMap::<&str, u32>::new();
        for line in bench.lines.iter().filter(|line| held.contains_key(&line.sequence)) {
            *count.entry(line.effect.reference()).or_default() += 1;
        }
        let multiply: BTreeSet<String> = count
            .into_iter()
            .filter(|(_, count)| *count > 1)
            .map(|(reference, _)| reference.to_owned())
            .collect();
        prop_assert_eq!(&summary.multiply_captured, &multiply);
    }

    #[test]
    fn the_lines_give_the_same_book_again(steps in steps(), cut in 0.0..1.0f64) {
        let bench = run(&steps);
        let mut again = Book::default();
        for line in &bench.lines {
            let text = serde_json::to_string(line).unwrap();
            let read: Entry = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, line);
            again.apply(&read).unwrap();
        }
        prop_assert_eq!(&again, &bench.book);
        // Any number of lines, as an interrupted write leaves them, is a book that goes on.
        let kept = (bench.lines.len() as f64 * cut) as usize;
        let mut book = Book::default();
        for line in &bench.lines[..kept] {
            book.apply(line).unwrap();
        }
        let mut bench = Bench { book, lines: Vec::new() };
        bench.cancel("another", "r0").unwrap();
        prop_assert!(bench.book.account("r0").unwrap().held.is_empty());
    }

    #[test]
    fn a_line_that_is_refused_changes_nothing(
        steps in steps(), from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(),
    ) {
        let lines = run(&steps).lines;
        prop_assume!(!lines.is_empty());
        let (from, to) = (from.index(lines.len()), to.index(lines.len()));
        let mut book = Book::default();
        for line in &lines[..to] {
            book.apply(line).unwrap();
        }
        let before = book.clone();
        let mut line = lines[from].clone();
        prop_assert_eq!(book.apply(&line).is_ok(), from == to);
        if from != to {
            prop_assert_eq!(&book, &before);
            // Even if it says that it is the next one.
            line.sequence = book.lines() + 1;
            prop_assert!(book.apply(&line).is_ok() || book == before);
        }
        prop_assert!(book.summary().refunded_minor <= book.summary().captured_minor);
    }
}
