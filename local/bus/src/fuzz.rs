//! Fuzzing: what a hostile peer can send, in the shapes that come close to what a good one
//! does. Each target starts from the files in `fuzz/<target>` and changes them at random, for a
//! bounded number of rounds.
//!
//! `BUS_FUZZ_ROUNDS` at build time sets the rounds; a run is the same every time, so that what it
//! finds can be found again. An input that broke something belongs into the corpus.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::amqp::encode::put_value;
use crate::amqp::frame::{Frame, FrameKind, take_frame};
use crate::amqp::performative::Performative;
use crate::amqp::sasl::SaslRequest;
use crate::amqp::sections::Sections;
use crate::amqp::{DecodeError, Reader, Value};
use crate::filter::{Action, EvalError, Properties, Scalar, SqlFilter};
use crate::limits::FRAME_BYTES_MAX;
use crate::message::Message;

/// Rounds of each target; some seconds in a debug build.
const ROUNDS: u32 = 20_000;

/// Bytes of an input; what matters happens in the first few hundred.
const INPUT_BYTES_MAX: usize = 8_192;

/// Changes made to one input.
const CHANGES_MAX: u32 = 6;

fn rounds() -> u32 {
    option_env!("BUS_FUZZ_ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// Runs a target on its corpus, then on changed copies of it.
fn fuzz(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(target);
    let files = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    for seed in &corpus {
        check(seed);
    }
    let mut rng = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    )
    .new_rng();
    for _ in 0..rounds() {
        check(&changed(&corpus, &mut rng));
    }
}

/// One input of the corpus with some bytes replaced, removed, repeated or taken from another.
fn changed(corpus: &[Vec<u8>], rng: &mut TestRng) -> Vec<u8> {
    use proptest::prelude::Rng as _;
    let mut below = |n: usize| usize::try_from(rng.next_u64()).unwrap_or(0) % n.max(1);
    let mut input = corpus[below(corpus.len())].clone();
    for _ in 0..=below(CHANGES_MAX as usize) {
        let at = below(input.len() + 1);
        let until = (at + below(16)).min(input.len());
        match below(7) {
            0 if at < input.len() => input[at] ^= 1 << below(8),
            // The edges of lengths, counts and codes.
            1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, 0xd1, 0xf0][below(7)],
            2 => drop(input.drain(at..until)),
            3 => {
                let piece = input[at..until].repeat(1 + below(40));
                input.splice(at..at, piece);
            }
            4 => {
                let other = &corpus[below(corpus.len())];
                let from = below(other.len());
                let to = (from + below(64)).min(other.len());
                input.splice(at..until, other[from..to].iter().copied());
            }
            5 => input.truncate(at),
            _ => input.insert(at, u8::try_from(below(256)).unwrap_or(0)),
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// All frames of an input that arrives in pieces, and whether it ended in an error.
fn frames(input: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for bytes in input.chunks(piece) {
        buffer.extend_from_slice(bytes);
        loop {
            match take_frame(&mut buffer, FRAME_BYTES_MAX) {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

#[test]
fn frames_are_the_same_however_they_arrive() {
    fuzz("frames", |input| {
        let (whole, failed) = frames(input, INPUT_BYTES_MAX.max(input.len()));
        let (pieces, failed_too) = frames(input, 7);
        assert_eq!((&whole, failed), (&pieces, failed_too));
        for frame in whole.iter().filter(|frame| frame.kind == FrameKind::Amqp) {
            if let Ok(Performative::Transfer(_, payload)) = Performative::decode(&frame.body)
                && Sections::split(&payload).is_ok()
            {
                let _ = Message::parse(&payload);
            }
        }
    });
}

#[test]
fn values_that_are_read_can_be_written_and_read_again() {
    fuzz("types", |input| {
        let bytes = Bytes::copy_from_slice(input);
        let mut reader = Reader::new(&bytes);
        let value: Result<Value, DecodeError> = reader.value();
        let Ok(value) = value else { return };
        let encode = |value: &Value| {
            let mut out = BytesMut::new();
            put_value(&mut out, value);
            out.freeze()
        };
        let once = encode(&value);
        let again = Reader::new(&once).value();
        let again = again.unwrap_or_else(|error| panic!("{value:?} cannot be read back: {error}"));
        // Compared as bytes: a float that is no number is not equal to itself.
        assert_eq!(encode(&again), once, "{value:?}");
    });
}

#[test]
fn sasl_is_read_or_refused() {
    fuzz("sasl", |input| {
        let _ = SaslRequest::decode(&Bytes::copy_from_slice(input));
    });
}

/// Every property there is, with one value.
struct Everything(Scalar<'static>);

impl Properties for Everything {
    fn user(&self, _: &str) -> Scalar<'_> {
        self.0.clone()
    }
    fn system(&self, _: &str) -> Option<Scalar<'_>> {
        Some(self.0.clone())
    }
    fn has_user(&self, _: &str) -> bool {
        true
    }
    fn new_id(&self) -> uuid::Uuid {
        uuid::Uuid::nil()
    }
}

#[test]
fn filters_are_refused_or_have_a_verdict() {
    let messages = [
        Everything(Scalar::Null),
        Everything(Scalar::Int(i64::MIN)),
        Everything(Scalar::Float(f64::NAN)),
        Everything(Scalar::Text("50%_off".into())),
    ];
    fuzz("filters", |input| {
        let text = String::from_utf8_lossy(input);
        let parameters = vec![("@p".into(), Scalar::Int(-1)), ("@q".into(), Scalar::Null)];
        if let Ok(filter) = SqlFilter::with_parameters(&text, parameters) {
            for message in &messages {
                let verdict: Result<bool, EvalError> = filter.matches(message);
                let _ = verdict;
            }
        }
        if let Ok(action) = Action::parse(&text) {
            for message in &messages {
                let _ = action.changes(message);
            }
        }
    });
}
