//! SQL rule actions: `SET name = expression` and `REMOVE name`, separated by `;`.

use super::parser::{Expr, Parser};
use super::{EvalError, Properties, Scalar, Scope, SyntaxError};

/// A parsed action together with its text, which clients ask for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Action {
    text: String,
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq)]
struct Statement {
    scope: Scope,
    name: String,
    /// `None` removes.
    value: Option<Expr>,
}

/// What an action does to one message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) scope: Scope,
    pub(crate) name: String,
    /// `None` removes.
    pub(crate) value: Option<Scalar<'static>>,
}

impl Action {
    /// Parses the statements.
    pub(crate) fn parse(text: &str) -> Result<Action, SyntaxError> {
        let mut parser = Parser::new(text)?;
        let mut statements = Vec::new();
        loop {
            let sets = parser.accept_word("SET");
            if !sets && !parser.accept_word("REMOVE") {
                return Err(parser.expected("SET or REMOVE"));
            }
            let property = parser.property()?;
            let value = if sets {
                parser.expect("=")?;
                Some(parser.expression(0)?)
            } else {
                None
            };
            statements.push(Statement { scope: property.scope, name: property.name, value });
            let more = parser.accept(";");
            if parser.at_end() {
                break;
            }
            if !more {
                parser.expect(";")?;
            }
        }
        Ok(Action { text: text.to_owned(), statements })
    }

    /// The text it was parsed from.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What to change on this message. Every expression sees the message as it came.
    pub(crate) fn changes(&self, properties: &dyn Properties) -> Result<Vec<Change>, EvalError> {
        self.statements
            .iter()
            .map(|statement| {
                let value = match &statement.value {
                    Some(expression) => Some(expression.evaluate(properties)?.into_owned()),
                    None => None,
                };
                Ok(Change { scope: statement.scope, name: statement.name.clone(), value })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample;

    impl Properties for Sample {
        fn user(&self, name: &str) -> Scalar<'_> {
            if name == "quantity" { Scalar::Int(3) } else { Scalar::Null }
        }
        fn system(&self, _: &str) -> Option<Scalar<'_>> {
            None
        }
        fn has_user(&self, name: &str) -> bool {
            name == "quantity"
        }
        fn new_id(&self) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
    }

    #[test]
    fn statements_become_changes() {
        let action = Action::parse("SET quantity = quantity * 2; REMOVE note; SET sys.To='x';");
        let changes = action.unwrap().changes(&Sample).unwrap();
        let change = |scope, name: &str, value| Change { scope, name: name.into(), value };
        assert_eq!(
            changes,
            [
                change(Scope::User, "quantity", Some(Scalar::Int(6))),
                change(Scope::User, "note", None),
                change(Scope::System, "To", Some(Scalar::Text("x".into()))),
            ]
        );
        let error = |text| Action::parse(text).unwrap_err().to_string();
        assert_eq!(error("a = 1"), "character 1: expected SET or REMOVE, found `a`");
        assert_eq!(error("SET a 1"), "character 7: expected `=`, found a number");
        assert_eq!(error("SET a = 1 REMOVE b"), "character 11: expected `;`, found `REMOVE`");
    }
}
