//! A parsed query as text again. Names and parameters are still names: what is printed is sent
//! back by a client, parameters and all, and parsed once more.

use std::fmt::Write as _;

use serde_json::Value;

use super::ast::{Binary, Expr, Projection, Select, Source, SubqueryKind, Unary};

/// `expr` as text, in parentheses wherever there could be a doubt.
pub(super) fn expr(expr: &Expr) -> String {
    match expr {
        Expr::Undefined | Expr::Slot(_) | Expr::AggregateSlot(_) => "undefined".to_owned(),
        Expr::Literal(value) => value.to_string(),
        Expr::Parameter(name) | Expr::Name(name) => name.clone(),
        Expr::Member(target, name) => format!("{}[{}]", self::expr(target), quoted(name)),
        Expr::Index(target, index) => format!("{}[{}]", self::expr(target), self::expr(index)),
        Expr::Unary(operator, operand) => {
            let sign = match operator {
                Unary::Not => "NOT ",
                Unary::Minus => "-",
                Unary::Plus => "+",
                Unary::BitNot => "~",
            };
            format!("({sign}{})", self::expr(operand))
        }
        Expr::Binary(operator, left, right) => {
            format!("({} {} {})", self::expr(left), symbol(*operator), self::expr(right))
        }
        Expr::And(parts) => format!("({})", joined(parts, " AND ")),
        Expr::Or(parts) => format!("({})", joined(parts, " OR ")),
        Expr::Coalesce(first, second) => {
            format!("({} ?? {})", self::expr(first), self::expr(second))
        }
        Expr::Conditional(three) => {
            let [condition, yes, no] = [0, 1, 2].map(|at| self::expr(&three[at]));
            format!("({condition} ? {yes} : {no})")
        }
        Expr::In(value, list) => format!("({} IN ({}))", self::expr(value), joined(list, ", ")),
        Expr::Between(three) => {
            let [value, low, high] = [0, 1, 2].map(|at| self::expr(&three[at]));
            format!("({value} BETWEEN {low} AND {high})")
        }
        Expr::Like(text, pattern, escape) => {
            let escape = escape.map(|c| format!(" ESCAPE {}", quoted(&c.to_string())));
            let escape = escape.unwrap_or_default();
            format!("({} LIKE {}{escape})", self::expr(text), self::expr(pattern))
        }
        Expr::Call(function, arguments) => {
            format!("{}({})", function.name(), joined(arguments, ", "))
        }
        Expr::Aggregate(kind, argument) => {
            format!("{}({})", kind.function(), self::expr(argument))
        }
        Expr::Object(properties) => object(properties),
        Expr::Array(elements) => format!("[{}]", joined(elements, ", ")),
        Expr::Subquery(kind, select) => {
            let word = match kind {
                SubqueryKind::Exists => "EXISTS",
                SubqueryKind::Array => "ARRAY",
                SubqueryKind::Scalar => "",
            };
            format!("{word}({})", self::select(select))
        }
    }
}

/// `{"name": value, …}`
pub(super) fn object(properties: &[(String, Expr)]) -> String {
    let parts = properties.iter().map(|(name, value)| format!("{}: {}", quoted(name), expr(value)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
}

/// A string literal.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// `FROM …` with its joins; empty without a source.
pub(super) fn from(sources: &[Source]) -> String {
    let mut text = String::new();
    for (index, source) in sources.iter().enumerate() {
        text.push_str(if index == 0 { " FROM " } else { " JOIN " });
        let Source { alias, collection, iterate } = source;
        // Writing into a string does not fail.
        let _ = match (collection, iterate) {
            (None, _) => write!(text, "{alias}"),
            (Some(collection), true) => write!(text, "{alias} IN {}", expr(collection)),
            (Some(collection), false) => write!(text, "{} AS {alias}", expr(collection)),
        };
    }
    text
}

/// `GROUP BY …`; empty without groups.
pub(super) fn group_by(keys: &[Expr]) -> String {
    match keys {
        [] => String::new(),
        keys => format!(" GROUP BY {}", joined(keys, ", ")),
    }
}

/// `ORDER BY …`; empty without an order.
pub(super) fn order_by(select: &Select) -> String {
    let items = select.order_by.iter().map(|order| {
        let direction = if order.descending { "DESC" } else { "ASC" };
        format!("{} {direction}", expr(&order.by))
    });
    let items = items.collect::<Vec<_>>().join(", ");
    if items.is_empty() { items } else { format!(" ORDER BY {items}") }
}

/// A whole query.
pub(super) fn select(select: &Select) -> String {
    let mut text = "SELECT ".to_owned();
    if select.distinct {
        text.push_str("DISTINCT ");
    }
    if let Some(top) = &select.top {
        let _ = write!(text, "TOP {} ", expr(top));
    }
    match &select.projection {
        Projection::Star => text.push('*'),
        Projection::Value(value) => {
            let _ = write!(text, "VALUE {}", expr(value));
        }
        Projection::List(items) => {
            let items =
                items.iter().map(|(name, value)| format!("{} AS {}", expr(value), quoted(name)));
            text.push_str(&items.collect::<Vec<_>>().join(", "));
        }
    }
    text.push_str(&from(&select.sources));
    if let Some(filter) = &select.filter {
        let _ = write!(text, " WHERE {}", expr(filter));
    }
    text.push_str(&group_by(&select.group_by));
    text.push_str(&order_by(select));
    if let (Some(offset), Some(limit)) = (&select.offset, &select.limit) {
        let _ = write!(text, " OFFSET {} LIMIT {}", expr(offset), expr(limit));
    }
    text
}

fn joined(parts: &[Expr], separator: &str) -> String {
    parts.iter().map(expr).collect::<Vec<_>>().join(separator)
}

fn symbol(operator: Binary) -> &'static str {
    match operator {
        Binary::Equal => "=",
        Binary::NotEqual => "!=",
        Binary::Less => "<",
        Binary::LessOrEqual => "<=",
        Binary::Greater => ">",
        Binary::GreaterOrEqual => ">=",
        Binary::Add => "+",
        Binary::Subtract => "-",
        Binary::Multiply => "*",
        Binary::Divide => "/",
        Binary::Remainder => "%",
        Binary::Concat => "||",
        Binary::BitAnd => "&",
        Binary::BitOr => "|",
        Binary::BitXor => "^",
        Binary::ShiftLeft => "<<",
        Binary::ShiftRight => ">>",
        Binary::ShiftRightZero => ">>>",
    }
}
