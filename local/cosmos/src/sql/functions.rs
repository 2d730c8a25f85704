//! Built-in scalar functions. Undefined or ill-typed arguments make an undefined result, as in
//! <https://learn.microsoft.com/azure/cosmos-db/nosql/query/system-functions>.

use std::collections::HashSet;

use std::borrow::Cow;

use serde_json::Value;

use super::eval::{equal, number};

/// Arguments; `None` is undefined.
pub(crate) type Arguments<'a, 'b> = &'b [Option<Cow<'a, Value>>];

/// A function, its name and how many arguments it takes.
#[derive(Debug)]
pub(crate) struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    /// The implementation.
    pub(crate) call: fn(Arguments<'_, '_>) -> Option<Value>,
    /// Bytes of the string that it makes, if that can be more than it is given.
    size: Option<fn(Arguments<'_, '_>) -> Option<usize>>,
    /// Whether it puts what it is given together to something larger.
    pub(super) joins: bool,
}

impl Function {
    /// Its upper-case name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes of the string that it makes of these, if that can be more than they have.
    pub(super) fn grows_to(&self, arguments: Arguments<'_, '_>) -> Option<usize> {
        self.size.and_then(|size| size(arguments))
    }

    pub(super) fn accepts(&self, count: usize) -> bool {
        (self.least..=self.most).contains(&count)
    }
}

/// The function with this upper-case name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|function| function.name == name)
}

const fn function(
    name: &'static str,
    least: usize,
    most: usize,
    call: fn(Arguments<'_, '_>) -> Option<Value>,
) -> Function {
    Function { name, least, most, call, size: None, joins: false }
}

impl Function {
    const fn growing(mut self, size: fn(Arguments<'_, '_>) -> Option<usize>) -> Self {
        self.size = Some(size);
        self
    }

    const fn joining(mut self) -> Self {
        self.joins = true;
        self
    }
}

const MANY: usize = 64;

static TABLE: &[Function] = &[
    function("IS_DEFINED", 1, 1, |a| Some(a[0].is_some().into())),
    function("IS_NULL", 1, 1, |a| Some(is(a, Value::is_null))),
    function("IS_BOOL", 1, 1, |a| Some(is(a, Value::is_boolean))),
    function("IS_NUMBER", 1, 1, |a| Some(is(a, Value::is_number))),
    function("IS_STRING", 1, 1, |a| Some(is(a, Value::is_string))),
    function("IS_ARRAY", 1, 1, |a| Some(is(a, Value::is_array))),
    function("IS_OBJECT", 1, 1, |a| Some(is(a, Value::is_object))),
    function("IS_PRIMITIVE", 1, 1, |a| Some(is(a, |v| !v.is_array() && !v.is_object()))),
    function("IS_INTEGER", 1, 1, |a| Some(is(a, |v| v.as_f64().is_some_and(|n| n.fract() == 0.0)))),
    function("STARTSWITH", 2, 3, |a| matching(a, |text, part| text.starts_with(part))),
    function("ENDSWITH", 2, 3, |a| matching(a, |text, part| text.ends_with(part))),
    function("CONTAINS", 2, 3, |a| matching(a, |text, part| text.contains(part))),
    function("STRINGEQUALS", 2, 3, |a| matching(a, |text, part| text == part)),
    function("UPPER", 1, 1, |a| Some(text(a, 0)?.to_uppercase().into())),
    function("LOWER", 1, 1, |a| Some(text(a, 0)?.to_lowercase().into())),
    function("LENGTH", 1, 1, |a| Some(text(a, 0)?.chars().count().into())),
    function("TRIM", 1, 1, |a| Some(text(a, 0)?.trim().into())),
    function("LTRIM", 1, 1, |a| Some(text(a, 0)?.trim_start().into())),
    function("RTRIM", 1, 1, |a| Some(text(a, 0)?.trim_end().into())),
    function("REVERSE", 1, 1, |a| Some(text(a, 0)?.chars().rev().collect::<String>().into())),
    function("CONCAT", 2, MANY, |a| Some(texts(a)?.concat().into()))
        .growing(|a| Some(texts(a)?.iter().map(|part| part.len()).sum())),
    function("SUBSTRING", 3, 3, |a| {
        let (start, length) = (integer(a, 1)?.max(0), integer(a, 2)?.max(0));
        Some(text(a, 0)?.chars().skip(size(start)).take(size(length)).collect::<String>().into())
    }),
    function("LEFT", 2, 2, |a| {
        Some(text(a, 0)?.chars().take(size(integer(a, 1)?)).collect::<String>().into())
    }),
    function("RIGHT", 2, 2, |a| {
        let text = text(a, 0)?;
        let skip = text.chars().count().saturating_sub(size(integer(a, 1)?));
        Some(text.chars().skip(skip).collect::<String>().into())
    }),
    function("REPLACE", 3, 3, |a| {
        let (whole, from, to) = (text(a, 0)?, text(a, 1)?, text(a, 2)?);
        Some(if from.is_empty() { whole.into() } else { whole.replace(from, to).into() })
    })
    .growing(|a| {
        let (whole, from, to) = (text(a, 0)?, text(a, 1)?, text(a, 2)?);
        let found = if from.is_empty() { 0 } else { whole.matches(from).count() };
        Some(whole.len().saturating_add(found.saturating_mul(to.len())))
    }),
    function("REPLICATE", 2, 2, |a| Some(text(a, 0)?.repeat(size(integer(a, 1)?)).into()))
        .growing(|a| Some(text(a, 0)?.len().saturating_mul(size(integer(a, 1)?)))),
    function("INDEX_OF", 2, 3, |a| {
        let text = text(a, 0)?;
        let skip = if a.len() == 3 { size(integer(a, 2)?) } else { 0 };
        let from = text.char_indices().nth(skip).map_or(text.len(), |(at, _)| at);
        let found = text[from..].find(self::text(a, 1)?);
        Some(found.map_or(-1, |at| text[..from + at].chars().count() as i64).into())
    }),
    function("TOSTRING", 1, 1, |a| {
        let value = a[0].as_deref()?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned).into())
    }),
    function("STRINGTONUMBER", 1, 1, |a| parsed(a, Value::is_number)),
    function("STRINGTOBOOLEAN", 1, 1, |a| parsed(a, Value::is_boolean)),
    function("STRINGTONULL", 1, 1, |a| parsed(a, Value::is_null)),
    function("STRINGTOARRAY", 1, 1, |a| parsed(a, Value::is_array)),
    function("STRINGTOOBJECT", 1, 1, |a| parsed(a, Value::is_object)),
    function("ARRAY_LENGTH", 1, 1, |a| Some(array(a, 0)?.len().into())),
    function("ARRAY_CONTAINS", 2, 3, |a| {
        let partial = a.get(2).and_then(Option::as_deref).and_then(Value::as_bool);
        let (all, wanted) = (array(a, 0)?, a[1].as_deref()?);
        let found = all.iter().any(|element| match partial {
            Some(true) => includes(element, wanted),
            _ => equal(element, wanted) == Some(true),
        });
        Some(found.into())
    }),
    function("ARRAY_CONCAT", 2, MANY, |a| {
        let parts = (0..a.len()).map(|i| array(a, i)).collect::<Option<Vec<_>>>()?;
        Some(parts.into_iter().flatten().cloned().collect())
    })
    .joining(),
    function("ARRAY_SLICE", 2, 3, |a| {
        let all = array(a, 0)?;
        let start = integer(a, 1)?;
        let start = if start < 0 { size(start + all.len() as i64) } else { size(start) };
        let length = if a.len() == 3 { size(integer(a, 2)?) } else { usize::MAX };
        Some(all.iter().skip(start).take(length).cloned().collect::<Vec<_>>().into())
    }),
    function("SETINTERSECT", 2, 2, |a| {
        let key = |value: &Value| super::order::key(Some(value), false);
        let other: HashSet<_> = array(a, 1)?.iter().map(key).collect();
        Some(distinct(array(a, 0)?.iter().filter(|value| other.contains(&key(value)))).into())
    }),
    function("SETUNION", 2, 2, |a| Some(distinct(array(a, 0)?.iter().chain(array(a, 1)?)).into())),
    function("ABS", 1, 1, |a| math(a, f64::abs)),
    function("CEILING", 1, 1, |a| math(a, f64::ceil)),
    function("FLOOR", 1, 1, |a| math(a, f64::floor)),
    function("ROUND", 1, 2, |a| {
        let scale =
            if a.len() == 2 { 10f64.powi(i32::try_from(integer(a, 1)?).ok()?) } else { 1.0 };
        number((double(a, 0)? * scale).round() / scale)
    }),
    function("TRUNC", 1, 1, |a| math(a, f64::trunc)),
    function("SQRT", 1, 1, |a| math(a, f64::sqrt)),
    function("SQUARE", 1, 1, |a| math(a, |n| n * n)),
    function("EXP", 1, 1, |a| math(a, f64::exp)),
    function("LOG", 1, 2, |a| match a.len() {
        1 => math(a, f64::ln),
        _ => number(double(a, 0)?.log(double(a, 1)?)),
    }),
    function("LOG10", 1, 1, |a| math(a, f64::log10)),
    function("SIGN", 1, 1, |a| math(a, |n| if n == 0.0 { 0.0 } else { n.signum() })),
    function("POWER", 2, 2, |a| number(double(a, 0)?.powf(double(a, 1)?))),
    function("PI", 0, 0, |_| number(std::f64::consts::PI)),
    function("IIF", 3, 3, |a| {
        let yes = a[0].as_deref().and_then(Value::as_bool).unwrap_or(false);
        a[if yes { 1 } else { 2 }].as_deref().cloned()
    }),
];

fn is(arguments: Arguments<'_, '_>, test: impl Fn(&Value) -> bool) -> Value {
    arguments[0].as_deref().is_some_and(test).into()
}

fn text<'b>(arguments: Arguments<'_, 'b>, index: usize) -> Option<&'b str> {
    arguments[index].as_deref()?.as_str()
}

fn array<'b>(arguments: Arguments<'_, 'b>, index: usize) -> Option<&'b Vec<Value>> {
    arguments[index].as_deref()?.as_array()
}

fn double(arguments: Arguments<'_, '_>, index: usize) -> Option<f64> {
    arguments[index].as_deref()?.as_f64()
}

fn integer(arguments: Arguments<'_, '_>, index: usize) -> Option<i64> {
    let value = double(arguments, index)?;
    (value.fract() == 0.0).then_some(value as i64)
}

fn size(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

fn math(arguments: Arguments<'_, '_>, call: fn(f64) -> f64) -> Option<Value> {
    number(call(double(arguments, 0)?))
}

/// A string test with the optional third argument that makes it ignore case.
fn matching(arguments: Arguments<'_, '_>, test: fn(&str, &str) -> bool) -> Option<Value> {
    let (whole, part) = (text(arguments, 0)?, text(arguments, 1)?);
    let ignore_case = match arguments.get(2) {
        Some(flag) => flag.as_deref()?.as_bool()?,
        None => false,
    };
    Some(
        match ignore_case {
            true => test(&whole.to_lowercase(), &part.to_lowercase()),
            false => test(whole, part),
        }
        .into(),
    )
}

fn texts<'b>(arguments: Arguments<'_, 'b>) -> Option<Vec<&'b str>> {
    (0..arguments.len()).map(|index| text(arguments, index)).collect()
}

fn parsed(arguments: Arguments<'_, '_>, test: fn(&Value) -> bool) -> Option<Value> {
    serde_json::from_str(text(arguments, 0)?.trim()).ok().filter(test)
}

/// Whether `whole` has everything that `part` has (the partial match of ARRAY_CONTAINS).
fn includes(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|found| includes(found, value))),
        _ => equal(whole, part) == Some(true),
    }
}

fn distinct<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    values.filter(|value| seen.insert(super::order::key(Some(value), false))).cloned().collect()
}
