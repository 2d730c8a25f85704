//! The `http` output binding of a function in JSON mode.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Serialize, Serializer};

/// An answer to an HTTP request in JSON mode: `Reply::done().output("res", HttpOutput::new(..))`,
/// with the name of the `http` output binding.
///
/// JSON is sent as text with its content type, because the host would print an object with
/// indentation and call it `text/plain`.
#[derive(Clone, Debug)]
#[must_use = "an answer does nothing until it is part of a reply"]
pub struct HttpOutput {
    status: StatusCode,
    headers: BTreeMap<String, String>,
    body: Result<String, String>,
}

impl HttpOutput {
    /// An answer without a body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: BTreeMap::new(), body: Ok(String::new()) }
    }

    /// Sets a header. The host takes one value per name.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), value.into());
        self
    }

    /// Sets a text body; plain text unless a `content-type` header says otherwise.
    pub fn text(mut self, body: impl Into<String>) -> Self {
        self.body = Ok(body.into());
        self
    }

    /// Sets a JSON body, and its content type unless there is one.
    pub fn json(mut self, body: impl Serialize) -> Self {
        self.body = serde_json::to_string(&body).map_err(|error| error.to_string());
        self.headers.entry("content-type".into()).or_insert_with(|| "application/json".into());
        self
    }
}

impl Serialize for HttpOutput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            // The host ignores a member called `status`.
            status_code: u16,
            headers: &'a BTreeMap<String, String>,
            body: &'a str,
        }
        let body = self.body.as_deref().map_err(serde::ser::Error::custom)?;
        let status_code = self.status.as_u16();
        Wire { status_code, headers: &self.headers, body }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Reply;

    #[test]
    fn as_the_binding_wants_it() {
        let created = HttpOutput::new(StatusCode::CREATED)
            .header("Location", "/api/orders/7")
            .json(json!({"id": 7}));
        let reply = Reply::done().output("res", created).into_envelope().unwrap();
        assert_eq!(
            reply.outputs["res"],
            json!({
                "statusCode": 201,
                "headers": {"location": "/api/orders/7", "content-type": "application/json"},
                "body": "{\"id\":7}",
            })
        );
        let keyed_by_list = std::collections::BTreeMap::from([(vec![1], 1)]);
        let broken = HttpOutput::new(StatusCode::OK).json(keyed_by_list);
        assert!(Reply::done().output("res", broken).into_envelope().is_err());
    }
}
