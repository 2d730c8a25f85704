//! A page of changes as an invocation gets to see it.
//!
//! The extension hands a custom handler the array as a *string*, which is encoded once more like
//! any other value: JSON text within a JSON string literal within a JSON string. There is nothing
//! about leases, ranges or positions in `Metadata`.

use time::OffsetDateTime;

use crate::bindings::Function;
use crate::invocation::envelope::{BindingData, date_time_with_fraction};
use crate::invocation::{BindingValue, Envelope};

/// `documents` is a JSON array.
pub(super) fn envelope(function: &Function, documents: &str, now: OffsetDateTime) -> Envelope {
    let data = BindingValue::text(documents).encode();
    Envelope::new(&function.name, &function.binding, data, BindingData::default(), now)
}

/// Why the invocation takes place.
pub(super) fn reason(container: &str, now: OffsetDateTime) -> String {
    format!("New changes on container {container} at {}", date_time_with_fraction(now))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;
    use crate::bindings::Trigger;
    use crate::config::cosmos::{ContainerAddress, CosmosConnection, CosmosDbTrigger, FirstStart};

    #[test]
    fn the_array_is_nested_three_times() {
        let account =
            CosmosConnection { setting: "C".into(), authority: "h:1".into(), key: vec![1] };
        let address = ContainerAddress { account, database: "d".into(), container: "c".into() };
        let second = std::time::Duration::from_secs(1);
        let trigger = CosmosDbTrigger {
            monitored: address.clone(),
            leases: address,
            lease_prefix: String::new(),
            create_leases: false,
            lease_throughput: None,
            poll_delay: second,
            acquire_interval: second,
            renew_interval: second,
            expiration: second,
            max_items: None,
            start: FirstStart::Now,
        };
        let function = Function {
            name: "OnChange".into(),
            binding: "docs".to_owned(),
            trigger: Trigger::CosmosDb(trigger.into()),
            retry: None,
            outputs: vec![],
            http_in_and_out: false,
        };
        let documents = r#"[{"id":"d-1","text":"a \"b\"","_etag":"\"00\"","_lsn":17}]"#;
        let now = datetime!(2026-03-01 10:00:02 UTC);
        let mut envelope = envelope(&function, documents, now).to_value();
        assert_eq!(
            envelope["Data"].to_string(),
            r#"{"docs":"\"[{\\\"id\\\":\\\"d-1\\\",\\\"text\\\":\\\"a \\\\\\\"b\\\\\\\"\\\",\\\"_etag\\\":\\\"\\\\\\\"00\\\\\\\"\\\",\\\"_lsn\\\":17}]\""}"#
        );
        let sys = envelope["Metadata"]["sys"].as_object_mut().unwrap();
        assert!(sys.remove("RandGuid").is_some_and(|id| id.as_str().unwrap().len() == 36));
        assert_eq!(
            envelope["Metadata"],
            json!({ "sys": { "MethodName": "OnChange", "UtcNow": "2026-03-01T10:00:02Z" } })
        );
        // Unpacked again, it is what the store has sent.
        let text: String =
            serde_json::from_str(envelope["Data"]["docs"].as_str().unwrap()).unwrap();
        assert_eq!(text, documents);
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_array());
        assert_eq!(
            reason("orders", now),
            "New changes on container orders at 2026-03-01T10:00:02Z"
        );
    }
}
