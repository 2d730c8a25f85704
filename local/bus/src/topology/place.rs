//! Reading a part of a topology file so that a mistake in it says where it is.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::NamespaceError;

/// The member whose values are keys: none of them belongs into an error.
const SECRET_MEMBER: &str = "authorizationRules";

/// Reads what stands at `place`.
///
/// # Errors
/// The first mistake, with its path from the top of the file.
pub(super) fn read<T: DeserializeOwned>(part: Value, place: &str) -> Result<T, NamespaceError> {
    serde_path_to_error::deserialize(part).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => place.to_owned(),
            path if place.is_empty() => path,
            path => format!("{place}.{path}"),
        };
        let said = error.into_inner().to_string();
        let said = match said.split_once(", expected ") {
            // "invalid type" and "invalid value" quote what they found.
            Some((found, expected)) if path.contains(SECRET_MEMBER) && found.starts_with("inv") => {
                format!("expected {expected}")
            }
            _ => said,
        };
        let at = if path.is_empty() { said } else { format!("{path}: {said}") };
        NamespaceError { problems: vec![at] }
    })
}

#[cfg(test)]
mod tests {
    use crate::topology::Namespace;

    fn refused(text: &str) -> String {
        Namespace::from_file_text(text).unwrap_err().problems.remove(0)
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        for (text, place) in [
            (
                r#"{"UserConfig": {"Namespaces": [{"Queues": [
                    {"Name": "a"}, {"Name": "b", "Properties": {"LockDuration": "1 minute"}}]}]}}"#,
                "UserConfig.Namespaces[0].Queues[1].Properties.LockDuration: `1 minute` is not an \
                 ISO 8601 duration",
            ),
            (
                r#"{"UserConfig": {"Namespaces": [{"Topics": [{"Name": "t", "Subscriptions": [
                    {"Name": "s", "Properties": {"MaxDeliveryCount": "3"}}]}]}]}}"#,
                "UserConfig.Namespaces[0].Topics[0].Subscriptions[0].Properties.MaxDeliveryCount: \
                 invalid type",
            ),
            (
                r#"{"UserConfig": {"Namespaces": [{"Queues": [{"Nmae": "q"}]}]}}"#,
                "UserConfig.Namespaces[0].Queues[0].Nmae: unknown field `Nmae`",
            ),
            (r#"{"UserConfig": 5}"#, "UserConfig: invalid type: integer `5`"),
            (
                r#"{"serviceBus": {"queues": [{"name": "q", "lockDuration": 60}]}}"#,
                "serviceBus.queues[0].lockDuration: invalid type: integer `60`",
            ),
            (r#"{"serviceBus": 5}"#, "serviceBus: invalid type: integer `5`"),
        ] {
            let said = refused(text);
            assert!(said.starts_with(place), "{said}");
        }
    }

    #[test]
    fn a_key_is_in_no_error() {
        for rules in [
            r#""12345678""#,
            r#"["12345678"]"#,
            r#"[{"name": "a", "primaryKey": 12345678, "rights": []}]"#,
            r#"[{"name": "a", "primaryKey": "x", "secondaryKey": [12345678], "rights": []}]"#,
        ] {
            for text in [
                format!(r#"{{"serviceBus": {{"authorizationRules": {rules}}}}}"#),
                format!(
                    r#"{{"serviceBus": {{"queues": [
                        {{"name": "q", "authorizationRules": {rules}}}]}}}}"#
                ),
            ] {
                let said = refused(&text);
                assert!(said.contains("authorizationRules"), "{said}");
                assert!(said.contains("expected") && !said.contains("12345678"), "{said}");
            }
        }
        let rights = r#"{"serviceBus": {"authorizationRules": [
            {"name": "a", "primaryKey": "12345678", "rights": ["listen"]}]}}"#;
        let said = refused(rights);
        assert!(said.contains("rights[0]: unknown variant `listen`"), "{said}");
    }
}
