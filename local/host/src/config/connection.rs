//! From the `connection` of a binding to a broker: Service Bus connection strings.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-reference#connections>.

use std::fmt;

use super::Settings;
use super::lookup::{find, part};
use crate::error::Problem;

/// The port of the plain AMQP listener of the Service Bus emulator.
const EMULATOR_PORT: u16 = 5672;

/// Where a broker is and how to be let in. `Debug` leaves the key out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServiceBusConnection {
    /// Name of the setting it came from.
    pub(crate) setting: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) key_name: String,
    pub(crate) key: String,
}

impl fmt::Debug for ServiceBusConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceBusConnection({} -> {}:{})", self.setting, self.host, self.port)
    }
}

impl ServiceBusConnection {
    /// `host:port`, for connecting and for messages.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Finds the connection `name` of a Service Bus binding: the setting `AzureWebJobs<name>`, then
/// `<name>`, as a string or as a section.
pub(crate) fn service_bus(
    name: &str,
    settings: &Settings,
) -> Result<ServiceBusConnection, Problem> {
    let name = if name.is_empty() { "ServiceBus" } else { name };
    let example = "Endpoint=sb://127.0.0.1:<port>;…;UseDevelopmentEmulator=true";
    let found = find(name, &["fullyQualifiedNamespace"], "broker", example, settings)?;
    parse(&found.setting, found.text)
}

fn parse(setting: &str, text: &str) -> Result<ServiceBusConnection, Problem> {
    // The value is a secret: none of it may appear in a message.
    let broken = |why: &str| {
        Problem::new(
            format!("setting {setting} is not a Service Bus connection string"),
            why.to_owned(),
            "write Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=…;SharedAccessKey=…;\
             UseDevelopmentEmulator=true",
        )
    };
    let part = |wanted: &str| part(text, wanted);
    let endpoint = part("Endpoint").ok_or_else(|| broken("it has no Endpoint"))?;
    let authority = endpoint
        .split_once("://")
        .map(|(_, rest)| rest)
        .ok_or_else(|| broken("its Endpoint is not a URL"))?
        .trim_end_matches('/');
    if !part("UseDevelopmentEmulator").is_some_and(|flag| flag.eq_ignore_ascii_case("true")) {
        return Err(Problem::new(
            format!("setting {setting} points to a broker that needs TLS"),
            "this local host speaks plain AMQP to a local broker only",
            "add UseDevelopmentEmulator=true if the broker is local; for a broker in Azure run \
             the app with func or deploy it",
        ));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse().map_err(|_| broken("the port of its Endpoint is no number"))?;
            (host, port)
        }
        None => (authority, EMULATOR_PORT),
    };
    if host.is_empty() {
        return Err(broken("its Endpoint has no host"));
    }
    let secret = |name: &str| part(name).ok_or_else(|| broken(&format!("it has no {name}")));
    Ok(ServiceBusConnection {
        setting: setting.to_owned(),
        host: host.to_owned(),
        port,
        key_name: secret("SharedAccessKeyName")?.to_owned(),
        key: secret("SharedAccessKey")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "Endpoint=sb://localhost:5679/;SharedAccessKeyName=Root;\
                         SharedAccessKey=a2V5==;UseDevelopmentEmulator=true;";

    fn find(pairs: &[(&str, &str)]) -> Result<ServiceBusConnection, Problem> {
        let values = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        service_bus("OrdersBus", &Settings::new(values))
    }

    #[test]
    fn the_prefixed_setting_wins_and_the_key_keeps_its_padding() {
        let found = find(&[("AzureWebJobsOrdersBus", LOCAL), ("OrdersBus", "x")]).unwrap();
        assert_eq!((found.host.as_str(), found.port), ("localhost", 5679));
        assert_eq!((found.key_name.as_str(), found.key.as_str()), ("Root", "a2V5=="));
        assert!(!format!("{found:?}").contains("a2V5"), "a key must not be printed");
    }

    #[test]
    fn what_cannot_work_here_says_why_and_what_to_do_without_the_secret() {
        let remote = LOCAL.replace("UseDevelopmentEmulator=true", "");
        let no_key = "Endpoint=sb://h;SharedAccessKeyName=n;UseDevelopmentEmulator=true";
        for (pairs, what, fix) in [
            (vec![], "has no setting", "local.settings.json"),
            (vec![("OrdersBus__fullyQualifiedNamespace", "x.net")], "identity", "remove"),
            (vec![("OrdersBus", remote.as_str())], "TLS", "UseDevelopmentEmulator"),
            (vec![("OrdersBus", "nonsense")], "not a Service Bus", "Endpoint="),
            (vec![("OrdersBus", no_key)], "not a Service Bus", "SharedAccessKey"),
        ] {
            let problem = find(&pairs).unwrap_err();
            assert!(problem.what.contains(what) && problem.fix.contains(fix), "{problem}");
            assert!(!problem.to_string().contains("a2V5"), "{problem}");
        }
    }
}
