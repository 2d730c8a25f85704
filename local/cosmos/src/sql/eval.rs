//! Evaluation of resolved expressions. `None` is undefined.
//!
//! Nothing here fails, but something can grow beyond its limit. Whoever evaluates hands in a
//! [`Watch`] and asks it afterwards: a result that was cut off must not be used.
//!
//! Undefined spreads: an operator on undefined or ill-typed operands is undefined, a comparison of
//! different types is undefined, and a row whose filter is not `true` is dropped
//! (<https://learn.microsoft.com/azure/cosmos-db/nosql/query/equality-comparison-operators>).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::ControlFlow;

use serde_json::{Map, Number, Value};

use super::aggregate::Accumulator;
use super::ast::{Binary, Expr, Projection, Select, Source, SubqueryKind, Unary};
use super::watch::{Exceeded, Watch, value_bytes};
use super::{like, order};
use crate::limits::{MAX_ROWS_PER_DOCUMENT, MAX_STRING_RESULT_BYTES};

/// The values that slots and aggregates stand for.
#[derive(Debug, Clone)]
pub(crate) struct Scope<'a> {
    /// Slot 0 is the item.
    pub(crate) slots: Vec<Option<&'a Value>>,
    pub(crate) aggregates: &'a [Option<Value>],
    pub(crate) watch: &'a Watch,
}

impl<'a> Scope<'a> {
    /// That of one item, or of none.
    pub(crate) fn of(item: Option<&'a Value>, watch: &'a Watch) -> Self {
        Self { slots: vec![item], aggregates: &[], watch }
    }
}

/// The value of `expr`.
pub(crate) fn eval<'a>(expr: &'a Expr, scope: &'a Scope<'_>) -> Option<Cow<'a, Value>> {
    match expr {
        Expr::Literal(value) => Some(Cow::Borrowed(value)),
        Expr::Slot(slot) => scope.slots.get(*slot).copied().flatten().map(Cow::Borrowed),
        Expr::AggregateSlot(slot) => scope.aggregates.get(*slot)?.as_ref().map(Cow::Borrowed),
        Expr::Member(target, name) => select_child(eval(target, scope)?, |v| v.get(name.as_str())),
        Expr::Index(target, index) => {
            let index = eval(index, scope)?;
            select_child(eval(target, scope)?, |v| match (v, &*index) {
                (Value::Object(properties), Value::String(name)) => properties.get(name),
                (Value::Array(elements), Value::Number(at)) => {
                    elements.get(usize::try_from(at.as_u64()?).ok()?)
                }
                _ => None,
            })
        }
        Expr::Unary(operator, operand) => unary(*operator, eval(operand, scope)).map(Cow::Owned),
        Expr::Binary(operator, left, right) => {
            let (left, right) = (eval(left, scope)?, eval(right, scope)?);
            binary(*operator, &left, &right, scope.watch).map(Cow::Owned)
        }
        Expr::And(all) => connect(all, scope, false),
        Expr::Or(all) => connect(all, scope, true),
        Expr::Coalesce(first, second) => eval(first, scope).or_else(|| eval(second, scope)),
        Expr::Conditional(three) => match is_true(&three[0], scope) {
            true => eval(&three[1], scope),
            false => eval(&three[2], scope),
        },
        Expr::In(value, all) => {
            let value = eval(value, scope)?;
            let found = |e| eval(e, scope).is_some_and(|v| equal(&value, &v) == Some(true));
            Some(Cow::Owned(all.iter().any(found).into()))
        }
        Expr::Between(three) => {
            let value = eval(&three[0], scope)?;
            let low = compare(&value, &*eval(&three[1], scope)?)?;
            let high = compare(&value, &*eval(&three[2], scope)?)?;
            Some(Cow::Owned((low.is_ge() && high.is_le()).into()))
        }
        Expr::Like(text, pattern, escape) => {
            let (text, pattern) = (eval(text, scope)?, eval(pattern, scope)?);
            Some(Cow::Owned(like::matches(text.as_str()?, pattern.as_str()?, *escape).into()))
        }
        Expr::Call(function, arguments) => {
            let arguments: Vec<_> = arguments.iter().map(|a| eval(a, scope)).collect();
            if function.grows_to(&arguments).is_some_and(|size| size > MAX_STRING_RESULT_BYTES) {
                scope.watch.note(Exceeded::String);
                return None;
            }
            let parts = || arguments.iter().flatten().map(|part| value_bytes(part)).sum();
            if function.joins && !scope.watch.builds(parts()) {
                return None;
            }
            (function.call)(&arguments).map(Cow::Owned)
        }
        Expr::Object(properties) => {
            let defined = properties
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), part(value, scope)?)));
            Some(Cow::Owned(Value::Object(defined.collect::<Map<_, _>>())))
        }
        Expr::Array(elements) => {
            Some(Cow::Owned(elements.iter().filter_map(|e| part(e, scope)).collect()))
        }
        Expr::Subquery(kind, select) => subquery(*kind, select, scope).map(Cow::Owned),
        // All but the first are gone after resolution.
        Expr::Undefined | Expr::Parameter(_) | Expr::Name(_) | Expr::Aggregate(..) => None,
    }
}

/// Whether `expr` is exactly `true`.
pub(crate) fn is_true(expr: &Expr, scope: &Scope<'_>) -> bool {
    matches!(eval(expr, scope).as_deref(), Some(Value::Bool(true)))
}

/// Calls `row` for every combination of the elements of `sources`, until it breaks. With more
/// combinations than are allowed it breaks by itself, and the watch of `scope` knows.
pub(crate) fn for_each_row(
    sources: &[Source],
    scope: &Scope<'_>,
    row: &mut dyn FnMut(&Scope<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut rows = 0;
    join(sources, scope, &mut |scope| {
        rows += 1;
        if rows > MAX_ROWS_PER_DOCUMENT {
            scope.watch.note(Exceeded::Rows);
            return ControlFlow::Break(());
        }
        row(scope)
    })
}

fn join(
    sources: &[Source],
    scope: &Scope<'_>,
    row: &mut dyn FnMut(&Scope<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some((source, rest)) = sources.split_first() else { return row(scope) };
    let Some(collection) = source.collection.as_ref().and_then(|expr| eval(expr, scope)) else {
        return ControlFlow::Continue(());
    };
    let mut inner = scope.clone();
    if !source.iterate {
        inner.slots.push(Some(&collection));
        return join(rest, &inner, row);
    }
    for element in collection.as_array().map(Vec::as_slice).unwrap_or_default() {
        inner.slots.push(Some(element));
        join(rest, &inner, row)?;
        inner.slots.pop();
    }
    ControlFlow::Continue(())
}

/// What `projection` makes of a row; `None` when it is undefined and makes no result.
pub(crate) fn project(projection: &Projection, scope: &Scope<'_>) -> Option<Value> {
    match projection {
        Projection::Star => scope.watch.copy(scope.slots.last().copied().flatten()?),
        Projection::Value(value) => part(value, scope),
        Projection::List(items) => {
            let defined =
                items.iter().filter_map(|(name, value)| Some((name.clone(), part(value, scope)?)));
            Some(Value::Object(defined.collect()))
        }
    }
}

/// The value of `expr` as a part of something that is being built.
fn part(expr: &Expr, scope: &Scope<'_>) -> Option<Value> {
    match eval(expr, scope)? {
        Cow::Borrowed(value) => scope.watch.copy(value),
        // What is in it was counted when it was built.
        Cow::Owned(value) => scope.watch.builds(size_of::<Value>()).then_some(value),
    }
}

/// Equality; `None` when the types differ.
pub(crate) fn equal(left: &Value, right: &Value) -> Option<bool> {
    match (left, right) {
        (Value::Null, Value::Null) => Some(true),
        (Value::Array(left), Value::Array(right)) => Some(
            left.len() == right.len()
                && left.iter().zip(right).all(|(l, r)| equal(l, r) == Some(true)),
        ),
        (Value::Object(left), Value::Object(right)) => Some(
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, l)| right.get(name).is_some_and(|r| equal(l, r) == Some(true))),
        ),
        _ => compare(left, right).map(Ordering::is_eq),
    }
}

/// Order of two scalars of the same type.
pub(crate) fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        _ => None,
    }
}

/// A double as a JSON number, without a fraction where it has none.
pub(crate) fn number(value: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}

fn select_child<'a>(
    value: Cow<'a, Value>,
    child: impl Fn(&Value) -> Option<&Value>,
) -> Option<Cow<'a, Value>> {
    match value {
        Cow::Borrowed(value) => child(value).map(Cow::Borrowed),
        Cow::Owned(value) => child(&value).cloned().map(Cow::Owned),
    }
}

/// Three-valued AND and OR: the decisive value wins over undefined.
fn connect<'a>(all: &[Expr], scope: &Scope<'_>, decisive: bool) -> Option<Cow<'a, Value>> {
    let mut defined = true;
    for operand in all {
        match eval(operand, scope).as_deref() {
            Some(Value::Bool(value)) if *value == decisive => {
                return Some(Cow::Owned(decisive.into()));
            }
            Some(Value::Bool(_)) => {}
            _ => defined = false,
        }
    }
    defined.then(|| Cow::Owned((!decisive).into()))
}

fn unary(operator: Unary, operand: Option<Cow<'_, Value>>) -> Option<Value> {
    let operand = operand?;
    match operator {
        Unary::Not => Some((!operand.as_bool()?).into()),
        Unary::Plus => operand.is_number().then(|| operand.into_owned()),
        Unary::Minus => match operand.as_i64().and_then(i64::checked_neg) {
            Some(negated) => Some(negated.into()),
            None => number(-operand.as_f64()?),
        },
        Unary::BitNot => Some((!bits(&operand)?).into()),
    }
}

fn binary(operator: Binary, left: &Value, right: &Value, watch: &Watch) -> Option<Value> {
    let ordered = |test: fn(Ordering) -> bool| Some(test(compare(left, right)?).into());
    let doubles = || Some((left.as_f64()?, right.as_f64()?));
    let integers = |call: fn(i64, i64) -> Option<i64>| call(left.as_i64()?, right.as_i64()?);
    match operator {
        Binary::Equal => equal(left, right).map(Value::from),
        Binary::NotEqual => equal(left, right).map(|equal| (!equal).into()),
        Binary::Less => ordered(Ordering::is_lt),
        Binary::LessOrEqual => ordered(Ordering::is_le),
        Binary::Greater => ordered(Ordering::is_gt),
        Binary::GreaterOrEqual => ordered(Ordering::is_ge),
        Binary::Add => match integers(i64::checked_add) {
            Some(sum) => Some(sum.into()),
            None => doubles().and_then(|(a, b)| number(a + b)),
        },
        Binary::Subtract => match integers(i64::checked_sub) {
            Some(difference) => Some(difference.into()),
            None => doubles().and_then(|(a, b)| number(a - b)),
        },
        Binary::Multiply => match integers(i64::checked_mul) {
            Some(product) => Some(product.into()),
            None => doubles().and_then(|(a, b)| number(a * b)),
        },
        Binary::Divide => doubles().and_then(|(a, b)| number(a / b)),
        Binary::Remainder => match integers(i64::checked_rem) {
            Some(remainder) => Some(remainder.into()),
            None => doubles().and_then(|(a, b)| number(a % b)),
        },
        Binary::Concat => {
            let (left, right) = (left.as_str()?, right.as_str()?);
            if left.len() + right.len() > MAX_STRING_RESULT_BYTES {
                watch.note(Exceeded::String);
                return None;
            }
            Some([left, right].concat().into())
        }
        Binary::BitAnd => Some((bits(left)? & bits(right)?).into()),
        Binary::BitOr => Some((bits(left)? | bits(right)?).into()),
        Binary::BitXor => Some((bits(left)? ^ bits(right)?).into()),
        Binary::ShiftLeft => Some(bits(left)?.wrapping_shl(bits(right)? as u32).into()),
        Binary::ShiftRight => Some(bits(left)?.wrapping_shr(bits(right)? as u32).into()),
        Binary::ShiftRightZero => {
            Some((bits(left)? as u32).wrapping_shr(bits(right)? as u32).into())
        }
    }
}

/// Bitwise operators work on 32-bit integers, as in JavaScript.
fn bits(value: &Value) -> Option<i32> {
    let double = value.as_f64()?;
    double.is_finite().then_some(double as i64 as i32)
}

fn subquery(kind: SubqueryKind, select: &Select, scope: &Scope<'_>) -> Option<Value> {
    let mut rows: Vec<(Vec<u8>, Value)> = Vec::new();
    let mut accumulators: Vec<Accumulator> =
        select.aggregates.iter().map(|a| Accumulator::new(a.kind)).collect();
    let outer = Scope { slots: scope.slots.clone(), aggregates: &[], watch: scope.watch };
    let any_will_do = kind == SubqueryKind::Exists && select.offset.is_none();
    let _ = for_each_row(&select.sources, &outer, &mut |row| {
        if select.filter.as_ref().is_some_and(|filter| !is_true(filter, row)) {
            return ControlFlow::Continue(());
        }
        if accumulators.is_empty() {
            if let Some(value) = project(&select.projection, row) {
                let keys = select.order_by.iter();
                let keys = keys.map(|o| order::key(eval(&o.by, row).as_deref(), o.descending));
                rows.push((keys.flatten().collect(), value));
            }
            return match any_will_do && !rows.is_empty() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
        }
        for (accumulator, aggregate) in accumulators.iter_mut().zip(&select.aggregates) {
            accumulator.add(eval(&aggregate.argument, row).as_deref());
        }
        ControlFlow::Continue(())
    });
    if !accumulators.is_empty() {
        let values: Vec<_> = accumulators.into_iter().map(Accumulator::finish).collect();
        let row = Scope { slots: scope.slots.clone(), aggregates: &values, watch: scope.watch };
        rows.extend(project(&select.projection, &row).map(|value| (Vec::new(), value)));
    }
    if select.distinct {
        let mut seen = std::collections::HashSet::new();
        rows.retain(|(_, value)| seen.insert(order::key(Some(value), false)));
    }
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let count = |expr: &Option<Expr>| match expr {
        Some(Expr::Literal(value)) => value.as_u64().and_then(|n| usize::try_from(n).ok()),
        _ => None,
    };
    let most = [&select.top, &select.limit].into_iter().filter_map(count).min();
    let rows = rows.into_iter().map(|(_, value)| value);
    let rows = rows.skip(count(&select.offset).unwrap_or(0)).take(most.unwrap_or(usize::MAX));
    let mut results: Vec<_> = rows.collect();
    match kind {
        SubqueryKind::Exists => Some((!results.is_empty()).into()),
        SubqueryKind::Array => Some(Value::Array(results)),
        SubqueryKind::Scalar => (results.len() == 1).then(|| results.remove(0)),
    }
}
