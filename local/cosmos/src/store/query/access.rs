//! Which documents a query has to look at: a partition, a stretch of an index, or all.

use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use super::super::container::Container;
use super::super::document::Document;
use super::super::feed::Scope;
use super::super::index::{Shape, Stretch, partition_prefix};
use super::super::partition::{Partition, Path};
use crate::limits::{MAX_PARTITION_SCAN_DOCUMENTS, MIN_DOCUMENTS_FOR_INDEX};
use crate::sql::ast::{Binary, Expr};
use crate::sql::{Query, order};

/// Equalities that go into one index; more make it no more selective in practice.
const MAX_EQUALITIES: usize = 3;

/// A way to find the candidates of a query.
#[derive(Debug, Clone)]
pub(super) enum Access {
    /// Every document, in the order of creation.
    All,
    /// The documents of one partition, in the order of creation.
    Partition,
    /// A stretch of an index, in its order.
    Index(Stretch),
}

/// A position between candidates: the encoded order, as ascending bytes, and the document number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) order: Vec<u8>,
    pub(super) number: u64,
}

impl Access {
    /// The name under which a continuation remembers it.
    pub(super) fn tag(&self) -> char {
        match self {
            Self::All => 'a',
            Self::Partition => 'p',
            Self::Index(_) => 'i',
        }
    }

    /// Chooses for `query` in `scope`. `tag` is the choice of an earlier page, which must stand.
    pub(super) fn choose(
        query: &Query,
        scope: &Scope,
        container: &Container,
        tag: Option<char>,
    ) -> Self {
        let small_partition = match scope {
            Scope::Partition(key) => {
                let limit = MAX_PARTITION_SCAN_DOCUMENTS + 1;
                container.partition_len(key, limit) < limit
            }
            Scope::All | Scope::Prefix(_) | Scope::Range { .. } => false,
        };
        let in_partition = matches!(scope, Scope::Partition(_));
        let wanted = match tag {
            Some('p') if in_partition => return Self::Partition,
            Some('a') => return Self::All,
            Some(_) => true,
            None => !small_partition && container.len() >= MIN_DOCUMENTS_FOR_INDEX,
        };
        match wanted.then(|| stretch(query, scope, container)).flatten() {
            Some(stretch) => Self::Index(stretch),
            None if in_partition => Self::Partition,
            None => Self::All,
        }
    }

    /// Whether candidates come in the order that the query asks for.
    pub(super) fn is_ordered(&self, query: &Query) -> bool {
        match (self, query.select.order_by.as_slice()) {
            (_, []) => true,
            (Self::Index(stretch), [only]) => {
                stretch.shape.ordered.is_some() && path_of(&only.by) == stretch.shape.ordered
            }
            _ => false,
        }
    }

    /// Up to `limit` candidates after `after`. The index, if it is one, must be there.
    pub(super) fn fetch(
        &self,
        container: &Container,
        scope: &Scope,
        after: Option<&Place>,
        limit: usize,
    ) -> Vec<Arc<Document>> {
        match (self, scope) {
            (Self::Index(stretch), _) => match container.index(&stretch.shape) {
                Some(index) => {
                    index.scan(stretch, after.map(|at| (&at.order[..], at.number)), limit)
                }
                None => Vec::new(),
            },
            (Self::Partition, Scope::Partition(key)) => {
                let after = after.map_or(0, |at| at.number);
                let newer = container.partition_items(key).filter(|d| d.number > after);
                let mut found: Vec<_> = newer.cloned().collect();
                found.sort_unstable_by_key(|document| document.number);
                found.truncate(limit);
                found
            }
            _ => {
                let after = after.map_or(0, |at| at.number);
                container.items_after(after).take(limit).cloned().collect()
            }
        }
    }
}

/// The path of properties that `expr` is, if it is one.
pub(super) fn path_of(expr: &Expr) -> Option<Path> {
    match expr {
        Expr::Member(target, name) => {
            let mut path = match **target {
                Expr::Slot(0) => Vec::new(),
                ref other => path_of(other)?,
            };
            path.push(name.clone());
            Some(path)
        }
        _ => None,
    }
}

fn stretch(query: &Query, scope: &Scope, container: &Container) -> Option<Stretch> {
    let mut equal: Vec<(Path, &Value)> = Vec::new();
    let mut ranges: Vec<(Path, Binary, &Value)> = Vec::new();
    let conditions = conjuncts(query.select.filter.as_ref(), &mut |path, operator, value| {
        if operator != Binary::Equal {
            ranges.push((path, operator, value));
        } else if equal.iter().all(|(known, _)| *known != path) {
            equal.push((path, value));
        }
    });
    equal.sort_by(|(a, _), (b, _)| a.cmp(b));
    equal.truncate(MAX_EQUALITIES);
    let covers_filter = conditions == equal.len();
    let streams = query.select.sources.is_empty() && !query.select.distinct && !query.is_grouped();
    let order_path = match query.select.order_by.as_slice() {
        [only] if streams => path_of(&only.by).map(|path| (path, only.descending)),
        _ => None,
    };
    let (ordered, descending) = match order_path {
        Some((path, descending)) => (Some(path), descending),
        None => (ranges.first().map(|(path, ..)| path.clone()), false),
    };
    if equal.is_empty() && ordered.is_none() {
        return None;
    }
    let mut prefix = Vec::new();
    let by_partition = match scope {
        Scope::Partition(key) => {
            let partition: &Partition = container.partition(key)?;
            partition_prefix(partition, &mut prefix);
            true
        }
        Scope::All | Scope::Prefix(_) | Scope::Range { .. } => false,
    };
    equal.iter().for_each(|(_, value)| order::encode(Some(value), &mut prefix));
    let (mut low, mut high) = (Bound::Unbounded, Bound::Unbounded);
    let bounding = ranges.iter().filter(|(path, ..)| Some(path) == ordered.as_ref());
    for (_, operator, value) in bounding {
        let key = order::key(Some(value), false);
        let (first, after) = type_bounds(key[0]);
        let own = match operator {
            Binary::Less => (Bound::Included(first), Bound::Excluded(key)),
            Binary::LessOrEqual => (Bound::Included(first), Bound::Included(key)),
            Binary::Greater => (Bound::Excluded(key), Bound::Excluded(after)),
            _ => (Bound::Included(key), Bound::Excluded(after)),
        };
        // The narrowest of several bounds is not worth finding: the filter is applied anyway.
        match operator {
            Binary::Less | Binary::LessOrEqual => {
                high = own.1;
                if low == Bound::Unbounded {
                    low = own.0;
                }
            }
            _ => {
                low = own.0;
                if high == Bound::Unbounded {
                    high = own.1;
                }
            }
        }
    }
    let equal = equal.into_iter().map(|(path, _)| path).collect();
    let shape = Shape { by_partition, equal, ordered };
    Some(Stretch { shape, prefix, low, high, descending, covers_filter })
}

/// The first encoding of a type and the first after it, given the tag of one of its values.
fn type_bounds(tag: u8) -> (Vec<u8>, Vec<u8>) {
    match tag {
        // false and true are tags of their own.
        0x02 | 0x03 => (vec![0x02], vec![0x04]),
        tag => (vec![tag], vec![tag + 1]),
    }
}

/// Calls `found` for every part of `filter` that must be true and compares a path with a scalar.
/// Returns the number of parts, whatever they are; a BETWEEN is found twice and counts twice.
fn conjuncts<'a>(
    filter: Option<&'a Expr>,
    found: &mut dyn FnMut(Path, Binary, &'a Value),
) -> usize {
    match filter {
        None | Some(Expr::Literal(Value::Bool(true))) => 0,
        Some(Expr::And(all)) => all.iter().map(|part| conjuncts(Some(part), found)).sum(),
        Some(Expr::Binary(operator, left, right)) => {
            let compared = match (&**left, &**right) {
                (path, Expr::Literal(value)) => Some((path_of(path), *operator, value)),
                (Expr::Literal(value), path) => {
                    mirrored(*operator).map(|operator| (path_of(path), operator, value))
                }
                _ => None,
            };
            if let Some((Some(path), operator, value)) = compared
                && mirrored(operator).is_some()
                && !value.is_array()
                && !value.is_object()
            {
                found(path, operator, value);
            }
            1
        }
        Some(Expr::Between(three)) => {
            if let (Some(path), Expr::Literal(low), Expr::Literal(high)) =
                (path_of(&three[0]), &three[1], &three[2])
            {
                found(path.clone(), Binary::GreaterOrEqual, low);
                found(path, Binary::LessOrEqual, high);
            }
            2
        }
        Some(_) => 1,
    }
}

/// The operator with its sides exchanged; `None` for operators that indexes do not serve.
fn mirrored(operator: Binary) -> Option<Binary> {
    Some(match operator {
        Binary::Equal => Binary::Equal,
        Binary::Less => Binary::Greater,
        Binary::LessOrEqual => Binary::GreaterOrEqual,
        Binary::Greater => Binary::Less,
        Binary::GreaterOrEqual => Binary::LessOrEqual,
        _ => return None,
    })
}
