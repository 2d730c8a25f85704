//! Fuzz targets: what comes from a client must never bring the process down.
//!
//! Each target starts from the inputs in `corpus/` and changes them at random for a bounded time,
//! two seconds unless `COSMOS_FUZZ_SECONDS` says otherwise, on stable Rust. An input that panics is
//! printed, and belongs into the corpus from then on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::binary;
use crate::sql::{Condition, Query, plan};
use crate::store::feed::Scope;
use crate::store::query::{Fetched, Plan};
use crate::store::{Action, ItemBody, Operation, PartitionKey, Patch, Store, Volatile};

/// Pieces that are spliced in, so that changed inputs get past the first token.
const PIECES: [&str; 40] = [
    "SELECT ",
    "VALUE ",
    "FROM c",
    " WHERE ",
    " ORDER BY ",
    " GROUP BY ",
    "DISTINCT ",
    "TOP 2 ",
    " JOIN t IN c.l",
    " OFFSET 1 LIMIT 2",
    "COUNT(1)",
    "AVG(c.n)",
    "EXISTS(",
    "ARRAY(",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "'",
    "\\",
    "c.n",
    "c[0]",
    "@p",
    " ?? ",
    " LIKE '%a'",
    "null",
    "-",
    "1e308",
    "9223372036854775807",
    "\u{0}",
    "é",
    "/",
    "~1",
    "\"op\":\"move\"",
    " DESC",
];

/// A small generator (SplitMix64); a run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn changed(dice: &mut Dice, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        match dice.below(6) {
            0 if !input.is_empty() => input[at.min(at.saturating_sub(1))] ^= 1 << dice.below(8),
            1 => drop(input.splice(at..at, PIECES[dice.below(PIECES.len())].bytes())),
            2 => input.truncate(at),
            3 => {
                let end = (at + dice.below(12)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                let end = (at + dice.below(40)).min(input.len());
                let repeated = input[at..end].repeat(1 + dice.below(60));
                drop(input.splice(at..at, repeated));
            }
            _ => {
                let other = &corpus[dice.below(corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[dice.below(other.len() + 1)..]);
            }
        }
    }
    input
}

fn fuzz(target: &str, run: impl Fn(&[u8])) {
    let (corpus, mut dice) = (corpus(target), Dice(0x636F_736D_6F73));
    assert!(!corpus.is_empty());
    #[expect(clippy::disallowed_methods, reason = "how long to search is for the caller to say")]
    let seconds = std::env::var("COSMOS_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let (begun, budget) = (Instant::now(), Duration::from_secs(seconds.unwrap_or(2)));
    let check = |input: &[u8]| {
        let survived = catch_unwind(AssertUnwindSafe(|| run(input))).is_ok();
        assert!(survived, "{target} panics on {:?}", String::from_utf8_lossy(input));
    };
    corpus.iter().for_each(|input| check(input));
    while begun.elapsed() < budget {
        check(&changed(&mut dice, &corpus));
    }
}

#[test]
fn sql() {
    let mut store = Store::new(1, Box::new(Volatile));
    store.create_database("db", 0).unwrap();
    let declared = json!({"id": "c", "partitionKey": {"paths": ["/pk"]}});
    let rid = store.create_container("db", declared.as_object().unwrap(), 0).unwrap().rid();
    for n in 0..6 {
        let item = json!({
            "id": n.to_string(), "pk": "p", "n": n, "l": [n, "a", null, {"x": [1.5]}],
            "o": {"s": "Text", "deep": {"er": true}},
        });
        let create = Action::Create(ItemBody::parse(&item.to_string()).unwrap());
        let create = Operation { action: create, if_match: None, if_none_match: None };
        store.execute(rid, &PartitionKey::parse("[\"p\"]").unwrap(), &[create], 0).unwrap();
    }
    let parameters: Map<String, Value> =
        json!({"@p": 1, "@q": ["a", {"b": null}]}).as_object().cloned().unwrap();
    let container = store.container_at(rid).unwrap();
    fuzz("sql", |input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(query) = Query::parse(&text, &parameters) {
            let plan = Plan::new(Arc::new(query), Scope::All, None, container).unwrap();
            let mut run = plan.run(Some(3), 0, None);
            if let Fetched::Candidates(candidates) = run.fetch(container) {
                let _ = run.evaluate(&candidates);
            }
            let _ = run.finish();
        }
        if let Ok(planned) = plan::plan(&text, &parameters) {
            let rewritten = planned.info["rewrittenQuery"].as_str().unwrap_or_default();
            let resumed = rewritten.replace("{documentdb-formattableorderbyquery-filter}", "true");
            let readable = Query::parse(&text, &parameters).is_err()
                || resumed.is_empty()
                || Query::parse(&resumed, &parameters).is_ok()
                // Parentheses make it deeper, which has its limit.
                || text.len() > 200;
            assert!(readable, "{resumed}");
        }
        if let Ok(condition) = Condition::parse(&text) {
            let _ = condition.holds(br#"{"id":"1","n":1,"l":[1,{"a":null}]}"#);
        }
    });
}

#[test]
fn patch() {
    let item = r#"{"id":"1","pk":"p","n":1,"d":0.5,"l":[1,[2],{"a":1}],"o":{"a/b":{"~":null}}}"#;
    let protected = [vec!["pk".to_owned()]];
    fuzz("patch", |input| {
        let text = String::from_utf8_lossy(input);
        let Ok(patch) = Patch::parse(&text, &protected) else { return };
        if let Ok(patched) = patch.apply(item) {
            let value: Value = serde_json::from_str(&patched).unwrap();
            assert_eq!((&value["id"], &value["pk"]), (&json!("1"), &json!("p")), "{patched}");
        }
    });
}

#[test]
fn request() {
    fuzz("request", |input| {
        if binary::is_binary(input)
            && let Ok(text) = binary::to_text(input)
        {
            let _ = ItemBody::parse(&text);
        }
        let text = String::from_utf8_lossy(input);
        if let Ok(body) = ItemBody::parse(&text) {
            assert!(body.value.is_object());
        }
        let _ = PartitionKey::parse(&text);
        let _ = crate::auth::parse_http_date(&text);
    });
}
