//! The query language: a lexer, a parser, an evaluator over JSON values.
//!
//! Specified by <https://learn.microsoft.com/azure/cosmos-db/nosql/query/>. Knows neither
//! containers nor HTTP; [`crate::store::query`] decides which items a query sees.

pub(crate) mod aggregate;
pub(crate) mod ast;
pub(crate) mod eval;
mod functions;
mod lexer;
mod like;
mod needs;
pub(crate) mod order;
mod parser;
mod resolve;

use serde_json::{Map, Value};
use thiserror::Error;

pub(crate) use ast::Select;
pub(crate) use needs::Needs;

use ast::Expr;
use parser::Parser;
use resolve::Resolver;

/// A query that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} (at byte {offset})")]
pub struct SqlError {
    /// Where, in bytes from the start; 0 when it concerns the query as a whole.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
}

impl SqlError {
    fn new(offset: usize, message: &str) -> Self {
        Self { offset, message: message.to_owned() }
    }
}

/// A resolved query.
#[derive(Debug, Clone)]
pub struct Query {
    pub(crate) select: Select,
    /// The properties that filters, orders, groups and projections look at.
    pub(crate) needs: Needs,
    /// FROM was given; without it there is one row and no item.
    pub(crate) has_source: bool,
    pub(crate) top: Option<usize>,
    pub(crate) offset: usize,
    pub(crate) limit: Option<usize>,
}

impl Query {
    /// Parses `text` and fills in `parameters` (names with their `@`).
    ///
    /// # Errors
    /// [`SqlError`] for anything outside the language.
    pub fn parse(text: &str, parameters: &Map<String, Value>) -> Result<Self, SqlError> {
        let mut select = Parser::new(text)?.query()?;
        let has_source = !select.sources.is_empty();
        if matches!(select.projection, ast::Projection::Star) && select.sources.len() != 1 {
            return Err(SqlError::new(0, "'SELECT *' is only valid with a single input set"));
        }
        Resolver::new(parameters).query(&mut select)?;
        let count = |expr: &Option<Expr>, what: &str| match expr {
            None => Ok(None),
            Some(Expr::Literal(value)) if value.is_u64() => {
                Ok(value.as_u64().and_then(|n| usize::try_from(n).ok()))
            }
            Some(_) => Err(SqlError::new(0, &format!("{what} must be a non-negative integer"))),
        };
        let grouped = !select.group_by.is_empty() || !select.aggregates.is_empty();
        if grouped && !select.order_by.is_empty() {
            return Err(SqlError::new(
                0,
                "ORDER BY cannot be combined with GROUP BY or aggregates",
            ));
        }
        Ok(Self {
            top: count(&select.top, "TOP")?,
            offset: count(&select.offset, "OFFSET")?.unwrap_or(0),
            limit: count(&select.limit, "LIMIT")?,
            needs: Needs::of(&mut select),
            has_source,
            select,
        })
    }

    /// Whether results are made of many rows rather than of one each.
    pub(crate) fn is_grouped(&self) -> bool {
        !self.select.group_by.is_empty() || !self.select.aggregates.is_empty()
    }
}

/// The condition of a PATCH, `FROM alias WHERE expression`.
#[derive(Debug, Clone)]
pub struct Condition {
    filter: Expr,
    needs: Needs,
}

impl Condition {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`SqlError`] for anything outside the language.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        let (alias, mut filter) = Parser::new(text)?.condition()?;
        Resolver::new(&Map::new()).condition(alias, &mut filter)?;
        let needs = Needs::of_expression(&mut filter);
        Ok(Self { filter, needs })
    }

    /// Whether it is true of the item with this JSON text.
    pub fn holds(&self, item: &[u8]) -> bool {
        let item = self.needs.read(item);
        let scope = eval::Scope { slots: vec![item.as_ref()], aggregates: &[] };
        eval::is_true(&self.filter, &scope)
    }
}
