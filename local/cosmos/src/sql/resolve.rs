//! Names to slots, parameters to literals, aggregates to accumulators.
//!
//! After this pass an expression refers to nothing by name, so that evaluation cannot fail.

use serde_json::{Map, Value};

use super::SqlError;
use super::ast::{Accumulated, Aggregate, Expr, Projection, Select, SubqueryKind};

pub(super) struct Resolver<'a> {
    parameters: &'a Map<String, Value>,
    /// Aliases in scope with their slots, innermost last.
    names: Vec<(String, usize)>,
    /// Number of slots in use.
    slots: usize,
    /// Aggregates of the query at hand; `None` where they are not allowed.
    aggregates: Option<Vec<Accumulated>>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(parameters: &'a Map<String, Value>) -> Self {
        Self { parameters, names: Vec::new(), slots: 1, aggregates: None }
    }

    /// Resolves a whole query; slot 0 is the item.
    pub(super) fn query(mut self, select: &mut Select) -> Result<(), SqlError> {
        if let Some(first) = select.sources.first_mut() {
            match &first.collection {
                // FROM c: the container itself under a name.
                None => {
                    self.names.push((first.alias.clone(), 0));
                    select.sources.remove(0);
                }
                // FROM x IN c.items: `c` stands for the container whatever it is called.
                Some(collection) => {
                    let root = root_name(collection)
                        .ok_or_else(|| SqlError::new(0, "FROM must start at the container"))?;
                    self.names.push((root.to_owned(), 0));
                }
            }
        }
        self.clauses(select)
    }

    /// Resolves an expression over the item under one name.
    pub(super) fn condition(mut self, alias: String, filter: &mut Expr) -> Result<(), SqlError> {
        self.names.push((alias, 0));
        self.expr(filter)
    }

    fn clauses(&mut self, select: &mut Select) -> Result<(), SqlError> {
        for source in &mut select.sources {
            let collection = source
                .collection
                .as_mut()
                .ok_or_else(|| SqlError::new(0, "a JOIN needs a path or a subquery"))?;
            if let Expr::Subquery(kind @ SubqueryKind::Scalar, _) = collection
                && source.iterate
            {
                *kind = SubqueryKind::Array;
            }
            self.expr(collection)?;
            self.names.push((source.alias.clone(), self.slots));
            self.slots += 1;
        }
        if let Some(filter) = &mut select.filter {
            self.expr(filter)?;
        }
        for key in &mut select.group_by {
            self.expr(key)?;
        }
        for limit in [&mut select.top, &mut select.offset, &mut select.limit].into_iter().flatten()
        {
            self.expr(limit)?;
        }
        self.aggregates = Some(Vec::new());
        match &mut select.projection {
            Projection::Star => {}
            Projection::Value(value) => self.expr(value)?,
            Projection::List(items) => {
                for (_, value) in items {
                    self.expr(value)?;
                }
            }
        }
        for order in &mut select.order_by {
            self.expr(&mut order.by)?;
        }
        select.aggregates = self.aggregates.take().unwrap_or_default();
        Ok(())
    }

    /// A subquery sees the aliases around it and hides its own; its aggregates are its own.
    fn subquery(&mut self, select: &mut Select) -> Result<(), SqlError> {
        let (names, slots) = (self.names.len(), self.slots);
        let aggregates = self.aggregates.take();
        for source in &mut select.sources {
            // FROM x: another name for something already in scope.
            if source.collection.is_none() {
                source.collection = Some(Expr::Name(source.alias.clone()));
            }
        }
        if !select.group_by.is_empty() {
            return Err(SqlError::new(0, "GROUP BY is not supported in a subquery"));
        }
        let result = self.clauses(select).and_then(|()| {
            for limit in [&select.top, &select.offset, &select.limit].into_iter().flatten() {
                if !matches!(limit, Expr::Literal(value) if value.is_u64()) {
                    let what = "TOP, OFFSET and LIMIT must be non-negative integers";
                    return Err(SqlError::new(0, what));
                }
            }
            Ok(())
        });
        self.names.truncate(names);
        self.slots = slots;
        self.aggregates = aggregates;
        result
    }

    fn expr(&mut self, expr: &mut Expr) -> Result<(), SqlError> {
        match expr {
            Expr::Name(name) => {
                let found = self.names.iter().rev().find(|(known, _)| known == name);
                let (_, slot) = found.ok_or_else(|| {
                    SqlError::new(0, &format!("identifier '{name}' could not be resolved"))
                })?;
                *expr = Expr::Slot(*slot);
                Ok(())
            }
            Expr::Parameter(name) => {
                let value = self.parameters.get(name.as_str()).ok_or_else(|| {
                    SqlError::new(0, &format!("the parameter '{name}' was not supplied"))
                })?;
                *expr = Expr::Literal(value.clone());
                Ok(())
            }
            Expr::Aggregate(kind, argument) => {
                let kind = *kind;
                // Aggregates do not nest.
                let slots = self.aggregates.take();
                self.expr(argument)?;
                let mut slots = slots
                    .ok_or_else(|| SqlError::new(0, "an aggregate is not allowed in this place"))?;
                let argument = match std::mem::replace(&mut **argument, Expr::Undefined) {
                    // The item is always defined; counting it need not parse it.
                    Expr::Slot(0) if kind == Aggregate::Count => Expr::Literal(Value::Bool(true)),
                    other => other,
                };
                slots.push(Accumulated { kind, argument });
                *expr = Expr::AggregateSlot(slots.len() - 1);
                self.aggregates = Some(slots);
                Ok(())
            }
            Expr::Subquery(_, select) => self.subquery(select),
            _ => {
                let mut result = Ok(());
                expr.children_mut(&mut |child| {
                    if result.is_ok() {
                        result = self.expr(child);
                    }
                });
                result?;
                if let Expr::Index(target, index) = expr
                    && let Expr::Literal(Value::String(name)) = &**index
                {
                    let target = std::mem::replace(&mut **target, Expr::Undefined);
                    *expr = Expr::Member(Box::new(target), name.clone());
                }
                Ok(())
            }
        }
    }
}

fn root_name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Name(name) => Some(name),
        Expr::Member(inner, _) | Expr::Index(inner, _) => root_name(inner),
        _ => None,
    }
}
