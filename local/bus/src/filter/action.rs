//! SQL rule actions: `SET name = expression` and `REMOVE name`, each of which may end in `;`.
//!
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-messaging-sql-rule-action>

use uuid::Uuid;

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
            parser.accept(";");
            if parser.at_end() {
                break;
            }
        }
        Ok(Action { text: text.to_owned(), statements })
    }

    /// The text it was parsed from.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What to change on this message. Every statement sees what those before it have done.
    pub(crate) fn changes(&self, properties: &dyn Properties) -> Result<Vec<Change>, EvalError> {
        let mut changed = Changed { properties, changes: Vec::new() };
        for Statement { scope, name, value } in &self.statements {
            let value = match value {
                Some(expression) => Some(expression.evaluate(&changed)?.into_owned()),
                None => None,
            };
            // On the wire these properties are texts, whatever they are computed from.
            let value = match scope {
                Scope::System => value.and_then(Scalar::into_text).map(Scalar::Text),
                Scope::User => value,
            };
            changed.changes.push(Change { scope: *scope, name: name.clone(), value });
        }
        Ok(changed.changes)
    }
}

/// A message as the statements so far have left it.
struct Changed<'a> {
    properties: &'a dyn Properties,
    changes: Vec<Change>,
}

impl Changed<'_> {
    fn last(&self, scope: Scope, name: &str) -> Option<&Change> {
        let same =
            |change: &&Change| change.scope == scope && change.name.eq_ignore_ascii_case(name);
        self.changes.iter().rev().find(same)
    }
}

impl Properties for Changed<'_> {
    fn user(&self, name: &str) -> Scalar<'_> {
        match self.last(Scope::User, name) {
            Some(change) => change.value.clone().unwrap_or(Scalar::Null),
            None => self.properties.user(name),
        }
    }

    fn system(&self, name: &str) -> Option<Scalar<'_>> {
        let known = self.properties.system(name)?;
        let last = self.last(Scope::System, name);
        Some(last.map_or(known, |change| change.value.clone().unwrap_or(Scalar::Null)))
    }

    fn has_user(&self, name: &str) -> bool {
        match self.last(Scope::User, name) {
            Some(change) => change.value.is_some(),
            None => self.properties.has_user(name),
        }
    }

    fn new_id(&self) -> Uuid {
        self.properties.new_id()
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
        fn system(&self, name: &str) -> Option<Scalar<'_>> {
            (name == "To").then_some(Scalar::Null)
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
        assert_eq!(error("SET a = 1,"), "character 10: expected SET or REMOVE, found `,`");
        assert_eq!(error(""), "character 1: expected SET or REMOVE, found the end");
    }

    fn set(text: &str) -> Vec<(String, Option<Scalar<'static>>)> {
        let changes = Action::parse(text).unwrap().changes(&Sample).unwrap();
        changes.into_iter().map(|change| (change.name, change.value)).collect()
    }

    #[test]
    fn statements_need_no_mark_between_them() {
        let names = |text| set(text).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("SET a = 1 + 1 REMOVE b SET c = a"), ["a", "b", "c"]);
        assert_eq!(names("SET a = 1\nSET b = quantity;REMOVE c;"), ["a", "b", "c"]);
    }

    #[test]
    fn a_statement_sees_what_those_before_it_did() {
        let last = |text| set(text).pop().unwrap().1;
        assert_eq!(last("SET a = 1; SET b = A + quantity"), Some(Scalar::Int(4)));
        assert_eq!(last("REMOVE quantity; SET b = quantity"), Some(Scalar::Null));
        assert_eq!(last("SET quantity = 7; SET b = p('quantity')"), Some(Scalar::Int(7)));
        assert_eq!(last("SET sys.To = 5; SET b = sys.To"), Some(Scalar::Text("5".into())));
    }

    #[test]
    fn system_properties_become_texts() {
        for (expression, text) in [
            ("quantity", Some("3")),
            ("-2.5", Some("-2.5")),
            ("TRUE", Some("true")),
            ("newid()", Some("00000000-0000-0000-0000-000000000000")),
            ("absent", None),
        ] {
            let value = text.map(|text: &str| Scalar::Text(text.to_owned().into()));
            assert_eq!(
                set(&format!("SET sys.To = {expression}")),
                [("To".into(), value)],
                "{expression}"
            );
        }
    }
}
