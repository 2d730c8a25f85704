//! Query plans: how a client that sends a query to every range puts the parts together.
//!
//! The client gets the query rewritten so that each range answers with parts (ordered rows with
//! their sort keys, partial aggregates, partial groups) and is told what to do with them. The shape
//! is that of the `PartitionedQueryExecutionInfo` that the official SDKs read.

use serde_json::{Map, Value, json};

use super::SqlError;
use super::ast::{Aggregate, Expr, Projection, Select};
use super::parser::Parser;
use super::print;

/// Where the client puts its own condition when it resumes an ordered query.
const RESUME_FILTER: &str = "{documentdb-formattableorderbyquery-filter}";

/// A plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueryPlan {
    /// The `queryInfo` of the answer.
    pub(crate) info: Value,
    /// The abilities that a client needs to carry it out, by the names that clients announce.
    pub(crate) needs: Vec<&'static str>,
}

impl QueryPlan {
    /// Whether the parts can be put one after another as they are.
    pub(crate) fn is_simple(&self) -> bool {
        self.needs.is_empty()
    }
}

/// Plans `text`, whose parameters have these values.
///
/// # Errors
/// [`SqlError`] for a query that cannot be put together from parts.
pub(crate) fn plan(text: &str, parameters: &Map<String, Value>) -> Result<QueryPlan, SqlError> {
    let select = Parser::new(text)?.query()?;
    let count = |expr: &Option<Expr>| match expr {
        Some(Expr::Literal(value)) => value.as_u64(),
        Some(Expr::Parameter(name)) => parameters.get(name).and_then(Value::as_u64),
        _ => None,
    };
    let (top, offset, limit) = (count(&select.top), count(&select.offset), count(&select.limit));
    let aggregates = aggregates(&select);
    let grouped = !select.group_by.is_empty() || !aggregates.is_empty();
    let mut info = json!({
        "distinctType": "None",
        "top": top,
        "offset": offset,
        "limit": limit,
        "orderBy": [],
        "orderByExpressions": [],
        "groupByExpressions": [],
        "groupByAliases": [],
        "aggregates": [],
        "groupByAliasToAggregateType": {},
        "rewrittenQuery": "",
        "hasSelectValue": matches!(select.projection, Projection::Value(_)),
        "hasNonStreamingOrderBy": false,
        "dCountInfo": null,
    });
    let mut needs = Vec::new();
    if select.top.is_some() {
        needs.push("Top");
    }
    if select.offset.is_some() {
        needs.push("OffsetAndLimit");
    }
    if select.distinct {
        needs.push("Distinct");
        let ordered = !select.order_by.is_empty();
        info["distinctType"] = if ordered { "Ordered" } else { "Unordered" }.into();
    }
    if grouped {
        if select.distinct || !select.order_by.is_empty() {
            return Err(SqlError::new(
                0,
                "DISTINCT and ORDER BY cannot be combined with GROUP BY or aggregates across \
                 partitions",
            ));
        }
        group(&select, &mut info, &mut needs)?;
    } else if !select.order_by.is_empty() {
        order(&select, &mut info, &mut needs);
    } else if select.offset.is_some() || select.distinct {
        let mut each = select.clone();
        limit_each_range(&mut each, offset, limit);
        info["rewrittenQuery"] = print::select(&each).into();
    }
    Ok(QueryPlan { info, needs })
}

/// A range may have all of the results that count: it skips nothing.
fn limit_each_range(select: &mut Select, offset: Option<u64>, limit: Option<u64>) {
    if let (Some(offset), Some(limit)) = (offset, limit) {
        select.offset = Some(Expr::Literal(0.into()));
        select.limit = Some(Expr::Literal(offset.saturating_add(limit).into()));
    }
}

fn order(select: &Select, info: &mut Value, needs: &mut Vec<&'static str>) {
    needs.push(if select.order_by.len() > 1 { "MultipleOrderBy" } else { "OrderBy" });
    let directions = select.order_by.iter();
    let directions =
        directions.map(|order| if order.descending { "Descending" } else { "Ascending" });
    info["orderBy"] = directions.collect();
    info["orderByExpressions"] =
        select.order_by.iter().map(|order| Value::from(print::expr(&order.by))).collect();
    let alias = select.sources.first().map_or("c", |source| source.alias.as_str());
    let items = select.order_by.iter().map(|o| format!("{{\"item\": {}}}", print::expr(&o.by)));
    let items = items.collect::<Vec<_>>().join(", ");
    let payload = match &select.projection {
        Projection::Star => alias.to_owned(),
        Projection::Value(value) => print::expr(value),
        Projection::List(items) => print::object(items),
    };
    let filter = match &select.filter {
        None => format!("({RESUME_FILTER})"),
        Some(filter) => format!("({}) AND ({RESUME_FILTER})", print::expr(filter)),
    };
    let mut text = "SELECT ".to_owned();
    if let Some(top) = &select.top {
        text.push_str(&format!("TOP {} ", print::expr(top)));
    }
    text.push_str(&format!("{alias}._rid, [{items}] AS orderByItems, {payload} AS payload"));
    text.push_str(&print::from(&select.sources));
    text.push_str(&format!(" WHERE {filter}{}", print::order_by(select)));
    let (offset, limit) = (info["offset"].as_u64(), info["limit"].as_u64());
    if let (Some(offset), Some(limit)) = (offset, limit) {
        text.push_str(&format!(" OFFSET 0 LIMIT {}", offset.saturating_add(limit)));
    }
    info["rewrittenQuery"] = text.into();
}

fn group(select: &Select, info: &mut Value, needs: &mut Vec<&'static str>) -> Result<(), SqlError> {
    let composed = || {
        SqlError::new(
            0,
            "compositions of aggregates and other expressions are not supported across partitions",
        )
    };
    if !select.group_by.is_empty() {
        needs.push("GroupBy");
        info["groupByExpressions"] =
            select.group_by.iter().map(|key| Value::from(print::expr(key))).collect();
    }
    let filter = select.filter.as_ref().map(|filter| format!(" WHERE {}", print::expr(filter)));
    let rest = format!(
        "{}{}{}",
        print::from(&select.sources),
        filter.unwrap_or_default(),
        print::group_by(&select.group_by)
    );
    let keys = select.group_by.iter().map(|key| format!("{{\"item\": {}}}", print::expr(key)));
    let keys = keys.collect::<Vec<_>>().join(", ");
    let keys = match keys.is_empty() {
        true => String::new(),
        false => format!("[{keys}] AS groupByItems, "),
    };
    match &select.projection {
        Projection::Value(Expr::Aggregate(kind, argument)) => {
            needs.push("Aggregate");
            info["aggregates"] = json!([kind.plan_name()]);
            let part = partial(*kind, argument);
            info["rewrittenQuery"] = match select.group_by.is_empty() {
                true => format!("SELECT VALUE [{part}]{rest}"),
                false => format!("SELECT {keys}{part} AS payload{rest}"),
            }
            .into();
        }
        Projection::Value(value) if !contains_aggregate(value) => {
            let payload = print::expr(value);
            info["rewrittenQuery"] = format!("SELECT {keys}{payload} AS payload{rest}").into();
        }
        Projection::Star | Projection::Value(_) => return Err(composed()),
        Projection::List(items) => {
            needs.push("NonValueAggregate");
            let (mut kinds, mut payload) = (Map::new(), Vec::new());
            for (name, value) in items {
                let (kind, part) = match value {
                    Expr::Aggregate(kind, argument) => {
                        (kind.plan_name().into(), partial(*kind, argument))
                    }
                    other if contains_aggregate(other) => return Err(composed()),
                    other => (Value::Null, print::expr(other)),
                };
                kinds.insert(name.clone(), kind);
                payload.push(format!("{}: {part}", print::quoted(name)));
            }
            info["groupByAliases"] = kinds.keys().map(|name| Value::from(name.as_str())).collect();
            info["groupByAliasToAggregateType"] = Value::Object(kinds);
            let payload = payload.join(", ");
            info["rewrittenQuery"] = format!("SELECT {keys}{{{payload}}} AS payload{rest}").into();
        }
    }
    Ok(())
}

/// What a range contributes to an aggregate.
fn partial(kind: Aggregate, argument: &Expr) -> String {
    let value = print::expr(argument);
    match kind {
        Aggregate::Count => format!("{{\"item\": COUNT({value})}}"),
        Aggregate::Sum => format!("{{\"item\": SUM({value})}}"),
        Aggregate::Avg => {
            format!("{{\"item\": {{\"sum\": SUM({value}), \"count\": COUNT({value})}}}}")
        }
        Aggregate::Min => format!(
            "{{\"item\": MIN({value}), \"item2\": {{\"min\": MIN({value}), \"count\": COUNT({value})}}}}"
        ),
        Aggregate::Max => format!(
            "{{\"item\": MAX({value}), \"item2\": {{\"max\": MAX({value}), \"count\": COUNT({value})}}}}"
        ),
    }
}

fn aggregates(select: &Select) -> Vec<Aggregate> {
    let mut found = Vec::new();
    let mut add = |expr: &Expr| {
        let mut expr = expr.clone();
        collect(&mut expr, &mut found);
    };
    match &select.projection {
        Projection::Star => {}
        Projection::Value(value) => add(value),
        Projection::List(items) => items.iter().for_each(|(_, value)| add(value)),
    }
    found
}

fn contains_aggregate(expr: &Expr) -> bool {
    let mut found = Vec::new();
    collect(&mut expr.clone(), &mut found);
    !found.is_empty()
}

fn collect(expr: &mut Expr, found: &mut Vec<Aggregate>) {
    if let Expr::Aggregate(kind, _) = expr {
        found.push(*kind);
    }
    expr.children_mut(&mut |child| collect(child, found));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str) -> QueryPlan {
        plan(text, &Map::new()).unwrap()
    }

    #[test]
    fn what_is_rewritten_can_be_read_again() {
        for (text, needs) in [
            ("SELECT * FROM c WHERE c.a = 'x'", vec![]),
            ("SELECT TOP 3 * FROM c", vec!["Top"]),
            ("SELECT * FROM c OFFSET 2 LIMIT 3", vec!["OffsetAndLimit"]),
            ("SELECT DISTINCT VALUE c.a FROM c", vec!["Distinct"]),
            ("SELECT c.id FROM c WHERE c.n > 1 ORDER BY c.n DESC", vec!["OrderBy"]),
            ("SELECT VALUE t FROM c JOIN t IN c.l ORDER BY c.n, c.m DESC", vec!["MultipleOrderBy"]),
            ("SELECT VALUE AVG(c.n) FROM c", vec!["Aggregate"]),
            ("SELECT VALUE MIN(c.n) FROM c", vec!["Aggregate"]),
            ("SELECT COUNT(1) AS n FROM c", vec!["NonValueAggregate"]),
            (
                "SELECT c.a, COUNT(1) AS n, AVG(c.b) AS m FROM c GROUP BY c.a",
                vec!["GroupBy", "NonValueAggregate"],
            ),
            (
                "SELECT VALUE c.a FROM c WHERE NOT (c.a LIKE '5!%' ESCAPE '!') AND c.b IN (1, -2) \
                 AND EXISTS(SELECT VALUE t FROM t IN c.l WHERE t ?? 1 BETWEEN 0 AND 2) \
                 OR (c.a ? c.b : c['d e'][0]) || 'x' != UPPER(c.f) ORDER BY c.n",
                vec!["OrderBy"],
            ),
        ] {
            let plan = planned(text);
            assert_eq!(plan.needs, needs, "{text}");
            let rewritten = plan.info["rewrittenQuery"].as_str().unwrap();
            let resumed = rewritten.replace(RESUME_FILTER, "true");
            if !resumed.is_empty() {
                crate::sql::Query::parse(&resumed, &Map::new())
                    .unwrap_or_else(|error| panic!("{resumed}: {error}"));
            }
        }
        assert!(plan("SELECT VALUE COUNT(1) + 1 FROM c", &Map::new()).is_err());
    }

    #[test]
    fn the_client_is_told_what_to_do() {
        let top = planned("SELECT c.a, COUNT(1) AS n FROM c GROUP BY c.a").info;
        assert_eq!(top["groupByAliasToAggregateType"], json!({"a": null, "n": "Count"}));
        assert_eq!(
            top["rewrittenQuery"],
            r#"SELECT [{"item": c["a"]}] AS groupByItems, {"a": c["a"], "n": {"item": COUNT(1)}} AS payload FROM c GROUP BY c["a"]"#
        );
        let page = planned("SELECT * FROM c ORDER BY c.n OFFSET 5 LIMIT 10").info;
        assert_eq!((&page["offset"], &page["limit"]), (&json!(5), &json!(10)));
        assert_eq!(
            page["rewrittenQuery"],
            "SELECT c._rid, [{\"item\": c[\"n\"]}] AS orderByItems, c AS payload FROM c WHERE \
             ({documentdb-formattableorderbyquery-filter}) ORDER BY c[\"n\"] ASC OFFSET 0 LIMIT 15"
        );
    }
}
