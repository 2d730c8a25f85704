//! Sharp edges: what Azure does without a word, said here, once per cause and with a count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Causes that are told apart; further ones are said each time. An app has far fewer.
const CAUSES_MAX: usize = 1_000;

/// How often each cause has come up.
#[derive(Clone, Default)]
pub(crate) struct Edges(Arc<Mutex<BTreeMap<String, u64>>>);

/// What to say about one more time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// All of it.
    First,
    /// That it goes on: at the tenth, hundredth, thousandth time.
    Again(u64),
    /// Nothing.
    Nothing,
}

impl Edges {
    /// Counts one more time.
    pub(crate) fn count(&self, cause: &str) -> Said {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = counts.len() >= CAUSES_MAX;
        match counts.get_mut(cause) {
            Some(count) => {
                *count += 1;
                let round = *count >= 10 && 10_u64.pow(count.ilog10()) == *count;
                if round { Said::Again(*count) } else { Said::Nothing }
            }
            None => {
                if !is_full {
                    counts.insert(cause.to_owned(), 1);
                }
                Said::First
            }
        }
    }

    /// Every cause that came up more than once, with its count.
    pub(crate) fn totals(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let often = counts.iter().filter(|(_, count)| **count > 1);
        often.map(|(cause, count)| (cause.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_explained_once_and_then_counted() {
        let edges = Edges::default();
        let said: Vec<(u64, Said)> = (1..=1_000)
            .map(|number| (number, edges.count("a")))
            .filter(|(_, said)| *said != Said::Nothing)
            .collect();
        let again = |count| (count, Said::Again(count));
        assert_eq!(said, [(1, Said::First), again(10), again(100), again(1_000)]);
        assert_eq!(edges.count("b"), Said::First);
        assert_eq!(edges.totals(), [("a".to_owned(), 1_000)]);
        for cause in 0..CAUSES_MAX {
            edges.count(&cause.to_string());
        }
        assert_eq!(edges.count("one too many"), Said::First);
        assert_eq!(edges.count("one too many"), Said::First);
    }
}
