//! Evaluation of SQL expressions in three-valued logic.
//!
//! A missing application property, and every comparison with one or between types that do not
//! compare, is unknown (null); a system property that does not exist, a division by zero and an
//! overflow are errors, which a subscription may dead-letter.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::parser::{Arithmetic, Comparison, Expr, Property, SqlFilter};
use super::scalar::{Scalar, as_f64};
use super::{Properties, Scope, like};

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EvalError {
    #[error("there is no system property `{0}`")]
    NoSystemProperty(String),
    #[error("division by zero")]
    DivisionByZero,
    #[error("the result exceeds 64 bits")]
    Overflow,
    #[error("the LIKE pattern ends in its escape character")]
    Pattern,
}

impl SqlFilter {
    /// Whether the condition is true: unknown is not.
    pub(crate) fn matches(&self, properties: &dyn Properties) -> Result<bool, EvalError> {
        Ok(self.expression.evaluate(properties)?.truth() == Some(true))
    }
}

impl Expr {
    /// The value for one message.
    pub(crate) fn evaluate<'a>(
        &'a self,
        properties: &'a dyn Properties,
    ) -> Result<Scalar<'a>, EvalError> {
        Ok(match self {
            Expr::Literal(Scalar::Text(text)) => Scalar::Text(Cow::Borrowed(text)),
            Expr::Literal(literal) => literal.clone(),
            Expr::Property(property) => lookup(property, properties)?,
            Expr::Named(name) => match name.evaluate(properties)? {
                Scalar::Text(name) => properties.user(&name).into_owned(),
                _ => Scalar::Null,
            },
            Expr::NewId => Scalar::Uuid(properties.new_id()),
            Expr::Exists(Property { scope: Scope::User, name }) => {
                Scalar::Bool(properties.has_user(name))
            }
            Expr::Exists(Property { scope: Scope::System, name }) => {
                Scalar::Bool(properties.system(name).is_some_and(|value| value != Scalar::Null))
            }
            Expr::Not(inner) => match inner.evaluate(properties)?.truth() {
                Some(truth) => Scalar::Bool(!truth),
                None => Scalar::Null,
            },
            Expr::Negate(inner) => match inner.evaluate(properties)? {
                Scalar::Int(n) => Scalar::Int(n.checked_neg().ok_or(EvalError::Overflow)?),
                Scalar::Float(n) => Scalar::Float(-n),
                _ => Scalar::Null,
            },
            Expr::And(left, right) => {
                let left = left.evaluate(properties)?.truth();
                if left == Some(false) {
                    return Ok(Scalar::Bool(false));
                }
                match (left, right.evaluate(properties)?.truth()) {
                    (_, Some(false)) => Scalar::Bool(false),
                    (Some(true), Some(true)) => Scalar::Bool(true),
                    _ => Scalar::Null,
                }
            }
            Expr::Or(left, right) => {
                let left = left.evaluate(properties)?.truth();
                if left == Some(true) {
                    return Ok(Scalar::Bool(true));
                }
                match (left, right.evaluate(properties)?.truth()) {
                    (_, Some(true)) => Scalar::Bool(true),
                    (Some(false), Some(false)) => Scalar::Bool(false),
                    _ => Scalar::Null,
                }
            }
            Expr::Compare(operator, left, right) => {
                let order = left.evaluate(properties)?.compare(&right.evaluate(properties)?);
                truth(order.map(|order| operator.holds(order)))
            }
            Expr::Arithmetic(operator, left, right) => {
                operator.apply(left.evaluate(properties)?, right.evaluate(properties)?)?
            }
            Expr::IsNull { value, negated } => {
                let is_null = value.evaluate(properties)? == Scalar::Null;
                Scalar::Bool(is_null != *negated)
            }
            Expr::In { value, list, negated } => {
                let value = value.evaluate(properties)?;
                let mut found = Some(false);
                for item in list {
                    match value.compare(&item.evaluate(properties)?) {
                        Some(Ordering::Equal) => {
                            found = Some(true);
                            break;
                        }
                        Some(_) => {}
                        None => found = None,
                    }
                }
                truth(found.map(|found| found != *negated))
            }
            Expr::Like { value, pattern, escape, negated } => {
                match (value.evaluate(properties)?, pattern.evaluate(properties)?) {
                    (Scalar::Text(text), Scalar::Text(pattern)) => {
                        let matched = like::matches(&text, &pattern, *escape);
                        Scalar::Bool(matched.ok_or(EvalError::Pattern)? != *negated)
                    }
                    _ => Scalar::Null,
                }
            }
        })
    }
}

fn truth(truth: Option<bool>) -> Scalar<'static> {
    truth.map_or(Scalar::Null, Scalar::Bool)
}

fn lookup<'a>(
    property: &Property,
    properties: &'a dyn Properties,
) -> Result<Scalar<'a>, EvalError> {
    match property.scope {
        Scope::User => Ok(properties.user(&property.name)),
        Scope::System => properties
            .system(&property.name)
            .ok_or_else(|| EvalError::NoSystemProperty(property.name.clone())),
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Arithmetic {
    fn apply<'a>(self, left: Scalar<'a>, right: Scalar<'a>) -> Result<Scalar<'a>, EvalError> {
        Ok(match (left, right) {
            (Scalar::Int(a), Scalar::Int(b)) => Scalar::Int(self.integers(a, b)?),
            (Scalar::Float(a), Scalar::Float(b)) => Scalar::Float(self.floats(a, b)),
            (Scalar::Int(a), Scalar::Float(b)) => Scalar::Float(self.floats(as_f64(a), b)),
            (Scalar::Float(a), Scalar::Int(b)) => Scalar::Float(self.floats(a, as_f64(b))),
            (Scalar::Text(a), Scalar::Text(b)) if self == Arithmetic::Add => {
                Scalar::Text(Cow::Owned(a.into_owned() + &b))
            }
            _ => Scalar::Null,
        })
    }

    fn integers(self, a: i64, b: i64) -> Result<i64, EvalError> {
        if b == 0 && matches!(self, Arithmetic::Divide | Arithmetic::Remainder) {
            return Err(EvalError::DivisionByZero);
        }
        match self {
            Arithmetic::Add => a.checked_add(b),
            Arithmetic::Subtract => a.checked_sub(b),
            Arithmetic::Multiply => a.checked_mul(b),
            Arithmetic::Divide => a.checked_div(b),
            Arithmetic::Remainder => a.checked_rem(b),
        }
        .ok_or(EvalError::Overflow)
    }

    fn floats(self, a: f64, b: f64) -> f64 {
        match self {
            Arithmetic::Add => a + b,
            Arithmetic::Subtract => a - b,
            Arithmetic::Multiply => a * b,
            Arithmetic::Divide => a / b,
            Arithmetic::Remainder => a % b,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message about an order.
    struct Sample;

    impl Properties for Sample {
        fn user(&self, name: &str) -> Scalar<'_> {
            match name.to_ascii_lowercase().as_str() {
                "event_type" => Scalar::Text("order.created".into()),
                "quantity" => Scalar::Int(3),
                "price" => Scalar::Float(9.5),
                "express" => Scalar::Bool(true),
                "odd name" => Scalar::Text("it's".into()),
                _ => Scalar::Null,
            }
        }
        fn system(&self, name: &str) -> Option<Scalar<'_>> {
            match name.to_ascii_lowercase().as_str() {
                "label" => Some(Scalar::Text("Orders".into())),
                "correlationid" => Some(Scalar::Null),
                _ => None,
            }
        }
        fn has_user(&self, name: &str) -> bool {
            name == "nothing" || self.user(name) != Scalar::Null
        }
        fn new_id(&self) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
    }

    fn passes(text: &str) -> bool {
        SqlFilter::parse(text).unwrap().matches(&Sample).unwrap()
    }

    #[test]
    fn conditions_that_hold() {
        for text in [
            "(target IS NULL OR target = 'billing-sub') AND event_type IN ('order.created')",
            "quantity = 3 AND quantity <> 4 AND quantity != 4",
            "quantity >= 3 and quantity <= 3 and not quantity > 3",
            "price * 2 = 19 AND quantity + 1 = 4 AND -quantity < 0 AND 7 % 4 = 3",
            "1 + 2 * 3 = 7 AND (1 + 2) * 3 = 9 AND 10 - 2 - 3 = 5 AND 7 / 2 = 3",
            "express = TRUE",
            "express",
            "event_type LIKE 'order.%' AND event_type NOT LIKE 'invoice%'",
            "event_type LIKE 'order!.%' ESCAPE '!'",
            "[odd name] = 'it''s' AND \"odd name\" LIKE 'it%'",
            "EXISTS(quantity) AND NOT EXISTS(absent) AND EXISTS(nothing)",
            "property('quantity') = 3 AND p('quantity') IN (1, 2, 3)",
            "sys.Label = 'Orders' AND user.QUANTITY = 3 AND sys.CorrelationId IS NULL",
            "quantity NOT IN (1, 2)",
            "absent IS NULL AND quantity IS NOT NULL",
            "FALSE OR NOT FALSE AND TRUE",
            "'a' + 'b' = 'ab'",
            "property('quan' + 'tity') = 3 AND property(absent) IS NULL",
            "property(p('odd name') + '') IS NULL",
            "1e2 = 100 AND .5 < 0.6",
        ] {
            assert!(passes(text), "{text}");
        }
    }

    #[test]
    fn parameters_stand_for_their_values() {
        let parameters = vec![
            ("@n".to_owned(), Scalar::Int(3)),
            ("@Kind".to_owned(), Scalar::Text("order.created".into())),
        ];
        let text = "quantity = @N AND event_type = @kind AND quantity + @n = 6";
        let filter = SqlFilter::with_parameters(text, parameters).unwrap();
        assert!(filter.matches(&Sample).unwrap());
        assert_eq!((filter.text(), filter.parameters().len()), (text, 2));
    }

    #[test]
    fn conditions_that_are_false_or_unknown() {
        for text in [
            "event_type = 'ORDER.CREATED'",
            "quantity = '3'",
            "absent = 1",
            "absent <> 1",
            "NOT (absent = 1)",
            "absent IN (1)",
            "absent NOT IN (1)",
            "quantity NOT IN (1, absent)",
            "absent LIKE '%'",
            "absent = absent",
            "NULL = NULL",
            "absent = 1 AND TRUE",
            "quantity",
            "event_type",
        ] {
            assert!(!passes(text), "{text}");
        }
        assert!(passes("absent = 1 OR TRUE"));
        assert!(passes("NOT (absent = 1 AND FALSE)"));
    }

    #[test]
    fn mistakes_are_errors_not_verdicts() {
        let error = |text: &str| SqlFilter::parse(text).unwrap().matches(&Sample).unwrap_err();
        assert_eq!(error("sys.Nonsense = 1"), EvalError::NoSystemProperty("Nonsense".into()));
        assert_eq!(error("quantity / 0 = 1"), EvalError::DivisionByZero);
        assert_eq!(error("9223372036854775807 + 1 > 0"), EvalError::Overflow);
        assert_eq!(error("event_type LIKE 'x!' ESCAPE '!'"), EvalError::Pattern);
    }
}
