//! Shared access rules as they are declared: a name, one or two keys, and what they allow.
//!
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-sas>

use serde::{Deserialize, Serialize};

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Right {
    /// To send, schedule and cancel.
    Send,
    /// To receive, settle, peek, and look after rules and sessions.
    Listen,
    /// To create, change and delete entities; includes the other two.
    Manage,
}

/// A shared access rule of a namespace, a queue or a topic.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationRule {
    /// What tokens name as `skn`.
    pub name: String,
    /// The key; its bytes are used as they are, not base64-decoded.
    pub primary_key: String,
    /// A second key, for changing the first without a gap.
    #[serde(default)]
    pub secondary_key: Option<String>,
    /// What tokens signed with it allow.
    pub rights: Vec<Right>,
}

/// Without the keys, so that they do not end up in a log.
impl std::fmt::Debug for AuthorizationRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorizationRule")
            .field("name", &self.name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}
