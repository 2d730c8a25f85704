//! Which properties of an item a query looks at, so that only those are parsed.
//!
//! Items are kept as text. A filter on two properties of a large document reads these two and skips
//! the rest, which is several times faster than building the whole value.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::ast::{Expr, Projection, Select};

/// The part of an item that must be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needs {
    /// All of it.
    All,
    /// These top-level properties.
    Properties(Vec<String>),
}

impl Needs {
    /// What `select` needs. Places where the item as a whole is written out count nothing: its
    /// text is copied.
    pub(super) fn of(select: &mut Select) -> Self {
        let mut needs = Self::none();
        needs.add_select(select, true);
        needs
    }

    /// What `select` needs when its filter is known to hold.
    pub(super) fn without_filter(select: &mut Select) -> Self {
        let filter = select.filter.take();
        let needs = Self::of(select);
        select.filter = filter;
        needs
    }

    pub(super) fn of_expression(expr: &mut Expr) -> Self {
        let mut needs = Self::none();
        needs.add(expr);
        needs
    }

    pub(crate) fn none() -> Self {
        Self::Properties(Vec::new())
    }

    /// Adds one top-level property.
    pub(crate) fn add_property(&mut self, name: &str) {
        if let Self::Properties(names) = self
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }

    /// The item with this JSON text, as far as needed; `None` when it is not an object.
    pub(crate) fn read(&self, text: &[u8]) -> Option<Value> {
        match self {
            Self::All => serde_json::from_slice(text).ok(),
            Self::Properties(names) if names.is_empty() => Some(Value::Object(Map::new())),
            Self::Properties(names) => {
                let mut deserializer = serde_json::Deserializer::from_slice(text);
                Some(Value::Object(Wanted(names).deserialize(&mut deserializer).ok()?))
            }
        }
    }

    fn add_select(&mut self, select: &mut Select, outermost: bool) {
        // Joined, grouped and distinct results are built from values.
        let copies = outermost
            && select.sources.is_empty()
            && select.group_by.is_empty()
            && select.aggregates.is_empty()
            && !select.distinct;
        match &mut select.projection {
            Projection::Star if copies || !select.sources.is_empty() => {}
            Projection::Star => *self = Self::All,
            Projection::Value(value) if copies => self.add_written(value),
            Projection::Value(value) => self.add(value),
            Projection::List(items) => items.iter_mut().for_each(|(_, value)| {
                if copies { self.add_written(value) } else { self.add(value) }
            }),
        }
        let sources = select.sources.iter_mut().filter_map(|source| source.collection.as_mut());
        sources
            .chain(&mut select.filter)
            .chain(&mut select.group_by)
            .chain(select.order_by.iter_mut().map(|order| &mut order.by))
            .chain(select.aggregates.iter_mut().map(|aggregate| &mut aggregate.argument))
            .for_each(|expr| self.add(expr));
    }

    /// An expression whose value is written to the result, where the bare item needs no parsing.
    fn add_written(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Slot(0) => {}
            Expr::Object(properties) => {
                properties.iter_mut().for_each(|(_, value)| self.add_written(value));
            }
            other => self.add(other),
        }
    }

    fn add(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Slot(0) => *self = Self::All,
            Expr::Member(target, name) if matches!(**target, Expr::Slot(0)) => {
                self.add_property(name);
            }
            Expr::Subquery(_, select) => self.add_select(select, false),
            other => other.children_mut(&mut |child| self.add(child)),
        }
    }
}

struct Wanted<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Map::new();
        while let Some(index) = map.next_key_seed(Position(self.0))? {
            match index {
                Some(index) => {
                    found.insert(self.0[index].clone(), map.next_value()?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads a property name as its position among the wanted ones, without allocating.
struct Position<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a property name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| wanted == name))
    }
}
