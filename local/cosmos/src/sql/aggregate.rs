//! COUNT, SUM, MIN, MAX and AVG, one value at a time.

use serde_json::Value;

use super::ast::Aggregate;
use super::eval::number;
use super::order;

/// The running state of one aggregate.
#[derive(Debug, Clone)]
pub(crate) struct Accumulator {
    kind: Aggregate,
    count: u64,
    /// Exact while all values are integers and fit.
    integer: Option<i64>,
    double: f64,
    /// A value that was not a number makes SUM and AVG undefined.
    mixed: bool,
    extreme: Option<(Vec<u8>, Value)>,
}

impl Accumulator {
    pub(crate) fn new(kind: Aggregate) -> Self {
        Self { kind, count: 0, integer: Some(0), double: 0.0, mixed: false, extreme: None }
    }

    /// Takes in a value; undefined ones do not count. Returns by how many bytes it has grown.
    pub(crate) fn add(&mut self, value: Option<&Value>) -> usize {
        let Some(value) = value else { return 0 };
        self.count += 1;
        match self.kind {
            Aggregate::Count => {}
            Aggregate::Sum | Aggregate::Avg => match value.as_f64() {
                Some(double) => {
                    self.double += double;
                    self.integer =
                        self.integer.zip(value.as_i64()).and_then(|(a, b)| a.checked_add(b));
                }
                None => self.mixed = true,
            },
            Aggregate::Min | Aggregate::Max => {
                let key = order::key(Some(value), false);
                let better = self.extreme.as_ref().is_none_or(|(best, _)| match self.kind {
                    Aggregate::Min => key < *best,
                    _ => key > *best,
                });
                if better {
                    // The key is about as long as the value.
                    let before = self.extreme.as_ref().map_or(0, |(best, _)| 2 * best.len());
                    let grown = (2 * key.len()).saturating_sub(before);
                    self.extreme = Some((key, value.clone()));
                    return grown;
                }
            }
        }
        0
    }

    /// The result; `None` is undefined.
    pub(crate) fn finish(self) -> Option<Value> {
        match self.kind {
            Aggregate::Count => Some(self.count.into()),
            Aggregate::Sum | Aggregate::Avg if self.mixed => None,
            Aggregate::Sum => self.integer.map(Value::from).or_else(|| number(self.double)),
            Aggregate::Avg => match self.count {
                0 => None,
                count => number(self.double / count as f64),
            },
            Aggregate::Min | Aggregate::Max => self.extreme.map(|(_, value)| value),
        }
    }
}
