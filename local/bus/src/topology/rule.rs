//! Rules as they are declared, and how they become what the broker evaluates.

use serde::{Deserialize, Serialize};

use crate::broker::{Rule, Timestamp};
use crate::filter::{Action, Correlation, Filter, Scalar, SqlFilter};

/// A rule: a SQL filter, a correlation filter, or neither for every message.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSpec {
    /// Unique within the subscription.
    pub name: String,
    /// A condition in the Service Bus filter language.
    #[serde(default)]
    pub sql_expression: Option<String>,
    /// Fields that must be equal.
    #[serde(default)]
    pub correlation_filter: Option<CorrelationSpec>,
    /// What to change in the copy: `SET …; REMOVE …`.
    #[serde(default)]
    pub action: Option<String>,
}

/// The fields of a correlation filter; those given must all be equal.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the message property of the same name")]
pub struct CorrelationSpec {
    pub correlation_id: Option<String>,
    pub message_id: Option<String>,
    pub to: Option<String>,
    pub reply_to: Option<String>,
    pub label: Option<String>,
    pub session_id: Option<String>,
    pub reply_to_session_id: Option<String>,
    pub content_type: Option<String>,
    pub properties: serde_json::Map<String, serde_json::Value>,
}

impl RuleSpec {
    /// The rule as the broker evaluates it.
    pub(crate) fn compile(&self) -> Result<Rule, String> {
        let filter = match (&self.sql_expression, &self.correlation_filter) {
            (Some(_), Some(_)) => {
                return Err("a rule has a sqlExpression or a correlationFilter, not both".into());
            }
            (Some(sql), None) => Filter::Sql(
                SqlFilter::parse(sql).map_err(|error| format!("sqlExpression, {error}"))?,
            ),
            (None, Some(spec)) => Filter::Correlation(spec.compile()?),
            (None, None) => Filter::True,
        };
        let action = self.action.as_deref().map(Action::parse).transpose();
        Ok(Rule {
            name: self.name.clone(),
            filter,
            action: action.map_err(|error| format!("action, {error}"))?,
            created_at: Timestamp::from_millis(0),
        })
    }
}

impl CorrelationSpec {
    fn compile(&self) -> Result<Correlation, String> {
        let fields = [
            ("CorrelationId", &self.correlation_id),
            ("MessageId", &self.message_id),
            ("To", &self.to),
            ("ReplyTo", &self.reply_to),
            ("Label", &self.label),
            ("SessionId", &self.session_id),
            ("ReplyToSessionId", &self.reply_to_session_id),
            ("ContentType", &self.content_type),
        ];
        let system = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect::<Vec<_>>();
        let mut user = Vec::new();
        for (name, value) in &self.properties {
            let value = match value {
                serde_json::Value::Bool(v) => Scalar::Bool(*v),
                serde_json::Value::String(v) => Scalar::Text(v.clone().into()),
                serde_json::Value::Number(v) => match (v.as_i64(), v.as_f64()) {
                    (Some(v), _) => Scalar::Int(v),
                    (None, Some(v)) => Scalar::Float(v),
                    (None, None) => return Err(format!("property `{name}`: number out of range")),
                },
                _ => return Err(format!("property `{name}` is a string, a number or a boolean")),
            };
            user.push((name.clone(), value));
        }
        if system.is_empty() && user.is_empty() {
            return Err("a correlationFilter has at least one field".into());
        }
        Ok(Correlation { system, user })
    }
}
