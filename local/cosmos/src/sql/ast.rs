//! What a parsed query is made of. Names and parameters are still names here; [`super::resolve`]
//! turns them into slots and literals.

use serde_json::Value;

use super::functions::Function;

/// A query or a subquery.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub(crate) distinct: bool,
    pub(crate) top: Option<Expr>,
    pub(crate) projection: Projection,
    pub(crate) sources: Vec<Source>,
    pub(crate) filter: Option<Expr>,
    pub(crate) group_by: Vec<Expr>,
    pub(crate) order_by: Vec<Order>,
    pub(crate) offset: Option<Expr>,
    pub(crate) limit: Option<Expr>,
    /// The aggregates of the projection, filled in by resolution.
    pub(crate) aggregates: Vec<Accumulated>,
}

/// An aggregate and what it is fed with.
#[derive(Debug, Clone)]
pub(crate) struct Accumulated {
    pub(crate) kind: Aggregate,
    pub(crate) argument: Expr,
}

/// What comes out of a row.
#[derive(Debug, Clone)]
pub(crate) enum Projection {
    /// `*`
    Star,
    /// `VALUE expression`
    Value(Expr),
    /// Named expressions, made into an object.
    List(Vec<(String, Expr)>),
}

/// One input of FROM or JOIN.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The name that the rest of the query uses.
    pub(crate) alias: String,
    /// Where its values come from; `None` is the container itself.
    pub(crate) collection: Option<Expr>,
    /// `IN`: each element of the array is a row.
    pub(crate) iterate: bool,
}

/// One ORDER BY item.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) by: Expr,
    pub(crate) descending: bool,
}

/// An expression.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Undefined,
    Literal(Value),
    Parameter(String),
    /// An alias, before resolution.
    Name(String),
    /// The value of a source; 0 is the item.
    Slot(usize),
    Member(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Coalesce(Box<Expr>, Box<Expr>),
    Conditional(Box<[Expr; 3]>),
    In(Box<Expr>, Vec<Expr>),
    /// Value, lower bound, upper bound.
    Between(Box<[Expr; 3]>),
    /// Text, pattern, escape character.
    Like(Box<Expr>, Box<Expr>, Option<char>),
    Call(&'static Function, Vec<Expr>),
    Aggregate(Aggregate, Box<Expr>),
    /// The result of an aggregate, after resolution.
    AggregateSlot(usize),
    Object(Vec<(String, Expr)>),
    Array(Vec<Expr>),
    /// `EXISTS(...)`, `ARRAY(...)` or a scalar subquery.
    Subquery(SubqueryKind, Box<Select>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubqueryKind {
    Exists,
    Array,
    Scalar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Not,
    Minus,
    Plus,
    BitNot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Concat,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
    ShiftRightZero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Count,
    Sum,
    Min,
    Max,
    Avg,
}

impl Aggregate {
    /// Its name in a query.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Count => "COUNT",
            Self::Sum => "SUM",
            Self::Min => "MIN",
            Self::Max => "MAX",
            Self::Avg => "AVG",
        }
    }

    /// Its name in a query plan.
    pub(super) fn plan_name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Sum => "Sum",
            Self::Min => "Min",
            Self::Max => "Max",
            Self::Avg => "Average",
        }
    }
}

impl Expr {
    /// Calls `visit` on every direct subexpression, not on subqueries.
    pub(crate) fn children_mut(&mut self, visit: &mut dyn FnMut(&mut Expr)) {
        match self {
            Self::Undefined
            | Self::Literal(_)
            | Self::Parameter(_)
            | Self::Name(_)
            | Self::Slot(_)
            | Self::AggregateSlot(_)
            | Self::Subquery(..) => {}
            Self::Member(a, _) | Self::Unary(_, a) | Self::Aggregate(_, a) => visit(a),
            Self::Index(a, b)
            | Self::Binary(_, a, b)
            | Self::Coalesce(a, b)
            | Self::Like(a, b, _) => {
                visit(a);
                visit(b);
            }
            Self::And(all) | Self::Or(all) | Self::Call(_, all) | Self::Array(all) => {
                all.iter_mut().for_each(visit);
            }
            Self::Conditional(three) | Self::Between(three) => three.iter_mut().for_each(visit),
            Self::In(a, all) => {
                visit(a);
                all.iter_mut().for_each(visit);
            }
            Self::Object(properties) => properties.iter_mut().for_each(|(_, value)| visit(value)),
        }
    }
}
