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
pub(crate) mod plan;
mod print;
mod resolve;
pub(crate) mod watch;

use serde_json::{Map, Value};
use thiserror::Error;

pub(crate) use ast::Select;
pub(crate) use needs::Needs;
pub use watch::Exceeded;

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
    /// The same without the filter.
    pub(crate) needs_without_filter: Needs,
    /// The parts of the filter that are about the item alone. One that is not true spares the
    /// item's JOINs.
    pub(crate) item_filters: Vec<Expr>,
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
        if grouped {
            check_grouping(&select)?;
        }
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
            item_filters: item_filters(&select),
            needs: Needs::of(&mut select),
            needs_without_filter: Needs::without_filter(&mut select),
            has_source,
            select,
        })
    }

    /// Whether results are made of many rows rather than of one each.
    pub(crate) fn is_grouped(&self) -> bool {
        !self.select.group_by.is_empty() || !self.select.aggregates.is_empty()
    }
}

fn item_filters(select: &Select) -> Vec<Expr> {
    fn is_about_item(expr: &Expr) -> bool {
        match expr {
            Expr::Slot(slot) => *slot == 0,
            Expr::Subquery(..) | Expr::AggregateSlot(_) => false,
            other => {
                let mut all = true;
                other.clone().children_mut(&mut |child| all &= is_about_item(child));
                all
            }
        }
    }
    let parts = match &select.filter {
        _ if select.sources.is_empty() => return Vec::new(),
        Some(Expr::And(all)) => all.as_slice(),
        Some(filter) => std::slice::from_ref(filter),
        None => &[],
    };
    parts.iter().filter(|part| is_about_item(part)).cloned().collect()
}

/// Whatever stands beside an aggregate must be the same for all rows of a group.
fn check_grouping(select: &Select) -> Result<(), SqlError> {
    // Resolved expressions are equal exactly if they print the same way.
    let keys: Vec<_> = select.group_by.iter().map(|key| format!("{key:?}")).collect();
    fn is_constant(expr: &Expr, keys: &[String]) -> bool {
        if keys.contains(&format!("{expr:?}")) {
            return true;
        }
        match expr {
            Expr::Slot(_) | Expr::Subquery(..) => false,
            other => {
                let mut constant = true;
                other.clone().children_mut(&mut |child| constant &= is_constant(child, keys));
                constant
            }
        }
    }
    let wrong = || {
        SqlError::new(
            0,
            "a property in the select list is contained neither in an aggregate function nor in \
             the GROUP BY clause",
        )
    };
    let constant = match &select.projection {
        ast::Projection::Star => false,
        ast::Projection::Value(value) => is_constant(value, &keys),
        ast::Projection::List(items) => items.iter().all(|(_, value)| is_constant(value, &keys)),
    };
    constant.then_some(()).ok_or_else(wrong)
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
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn holds(&self, item: &[u8]) -> Result<bool, Exceeded> {
        let (item, watch) = (self.needs.read(item), watch::Watch::default());
        let holds = eval::is_true(&self.filter, &eval::Scope::of(item.as_ref(), &watch));
        watch.verdict().map(|()| holds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What queries are made of, so that random ones get past the first token.
    const WORDS: [&str; 58] = [
        "SELECT",
        "VALUE",
        "FROM",
        "WHERE",
        "ORDER",
        "BY",
        "GROUP",
        "JOIN",
        "IN",
        "AS",
        "TOP",
        "DISTINCT",
        "OFFSET",
        "LIMIT",
        "AND",
        "OR",
        "NOT",
        "BETWEEN",
        "LIKE",
        "ESCAPE",
        "EXISTS",
        "ARRAY",
        "ASC",
        "DESC",
        "c",
        "x",
        "c.a",
        "c.b[0]",
        "@p",
        "@q",
        "1",
        "-2.5",
        "'s'",
        "\"t\"",
        "null",
        "true",
        "undefined",
        "*",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        "??",
        "=",
        "<",
        "||",
        "+",
        "/",
        "COUNT(",
        "SUM(c.a)",
        "CONTAINS(",
        "ARRAY_CONTAINS(c.a, 1)",
        ".",
    ];

    fn parameters() -> Map<String, Value> {
        json!({"@p": 1, "@q": {"a": []}}).as_object().cloned().unwrap_or_default()
    }

    /// Parses, and evaluates what could be parsed.
    fn exercise(text: &str) {
        let item = json!({"a": 1, "b": [{"c": "x"}], "id": "1"});
        if let Ok(query) = Query::parse(text, &parameters()) {
            let watch = watch::Watch::default();
            let scope = eval::Scope::of(Some(&item), &watch);
            let _ = eval::for_each_row(&query.select.sources, &scope, &mut |row| {
                query.select.filter.iter().for_each(|f| drop(eval::eval(f, row)));
                drop(eval::project(&query.select.projection, row));
                std::ops::ControlFlow::Continue(())
            });
        }
        if let Ok(condition) = Condition::parse(text) {
            let _ = condition.holds(item.to_string().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            exercise(&text);
            exercise(&format!("SELECT {text} FROM c"));
            exercise(&format!("from c where {text}"));
        }

        #[test]
        fn no_sequence_of_tokens_panics(words in proptest::collection::vec(0..WORDS.len(), 0..25)) {
            let words: Vec<_> = words.into_iter().map(|at| WORDS[at]).collect();
            exercise(&words.join(" "));
            exercise(&format!("SELECT * FROM c WHERE {}", words.join(" ")));
            exercise(&format!("SELECT {} FROM c JOIN x IN c.b", words.join(" ")));
        }
    }

    #[test]
    fn conditions_follow_three_valued_logic() {
        let item = br#"{"a":1,"s":"X","n":null,"_ts":5,"o":{"k":[1,{"z":true}]}}"#;
        for (text, expected) in [
            ("from c where c.a = 1", true),
            ("FROM root WHERE root.a = 1 AND root.s = 'X'", true),
            ("from c where c.s = 'x'", false),
            ("from c where c.none = 1", false),
            ("from c where c.none != 1", false),
            ("from c where NOT (c.none = 1)", false),
            ("from c where c.none = 1 OR c.a = 1", true),
            ("from c where c.none = 1 AND c.a = 1", false),
            ("from c where NOT (c.none = 1 AND c.a = 2)", true),
            ("from c where c.a = '1'", false),
            ("from c where c.a != '1'", false),
            ("from c where c.n = null AND IS_NULL(c.n)", true),
            ("from c where c._ts >= 5", true),
            ("from c where c.o.k[1].z", true),
            ("from c where c['o']['k'][0] = 1.0", true),
            ("from c where c.o = {\"k\": [1, {\"z\": true}]}", true),
            ("from c where NOT IS_DEFINED(c.none)", true),
            ("from c where c.a", false),
            ("from c where (c.none ?? c.a) = 1", true),
            ("from c where -c.a < 0 AND c.a + 2 * 3 = 7", true),
            ("from c where c.a / 0 = 1", false),
            ("from c where EXISTS(SELECT VALUE k FROM k IN c.o.k WHERE k = 1)", true),
            ("from c where ARRAY_LENGTH(ARRAY(SELECT VALUE k FROM k IN c.o.k)) = 2", true),
            ("from c where (SELECT VALUE COUNT(1) FROM k IN c.o.k) = 2", true),
        ] {
            assert_eq!(Condition::parse(text).unwrap().holds(item), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "c.a = 1",
            "from c",
            "from c where",
            "from c where d.a = 1",
            "from c where COUNT(1) = 1",
        ] {
            assert!(Condition::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_is_needed_is_parsed() {
        let needs = |text| Query::parse(text, &parameters()).unwrap().needs;
        let some =
            |names: &[&str]| Needs::Properties(names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(needs("SELECT * FROM c"), some(&[]));
        assert_eq!(needs("SELECT VALUE COUNT(c) FROM c WHERE c.a.b = 1"), some(&["a"]));
        assert_eq!(
            needs("SELECT VALUE {p: c, q: c.x.y} FROM c ORDER BY c['z']"),
            some(&["x", "z"])
        );
        assert_eq!(needs("SELECT VALUE t FROM c JOIN t IN c.tags"), some(&["tags"]));
        assert_eq!(needs("SELECT VALUE [c] FROM c"), Needs::All);
        assert_eq!(needs("SELECT DISTINCT VALUE c FROM c"), Needs::All);
    }
}
