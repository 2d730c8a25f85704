//! Tests of [`super`]: which settings are read, in which order, and how problems are told.

use std::collections::HashMap;

use super::*;

fn settings<const N: usize>(pairs: [(&str, &str); N]) -> impl Fn(&str) -> Option<String> {
    let map: HashMap<String, String> =
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    move |name| map.get(name).cloned()
}

fn reasons(error: &ConnectionError) -> Vec<(&str, &str)> {
    error.problems.iter().map(|p| (p.setting.as_str(), p.reason.as_str())).collect()
}

#[test]
fn cosmos_connection_strings() {
    let found = CosmosConnection::resolve(
        "OrdersStore",
        settings([(
            "OrdersStore",
            " accountendpoint = http://127.0.0.1:8081/ ; AccountKey=c2VjcmV0a2V5PT0= ;",
        )]),
    )
    .unwrap();
    assert_eq!(found.endpoint.as_str(), "http://127.0.0.1:8081/");
    assert_eq!(found.credential, Credential::Key(Secret::new("c2VjcmV0a2V5PT0=")));
    assert!(!found.accept_emulator_certificate);

    let tls = CosmosConnection::from_connection_string(
        "AccountEndpoint=https://localhost:8081/;AccountKey=YQ==;DisableServerCertificateValidation=True",
    )
    .unwrap();
    assert!(tls.accept_emulator_certificate);
}

#[test]
fn the_prefixed_name_wins_as_it_does_in_the_host() {
    let found = CosmosConnection::resolve(
        "OrdersStore",
        settings([
            ("AzureWebJobsOrdersStore__accountEndpoint", "https://a.documents.azure.com/"),
            ("OrdersStore", "AccountEndpoint=https://b.documents.azure.com/;AccountKey=YQ=="),
        ]),
    )
    .unwrap();
    assert_eq!(found.endpoint.host_str(), Some("a.documents.azure.com"));
    assert_eq!(found.credential, Credential::Token(Identity::Developer));
}

#[test]
fn identities() {
    let endpoint = ("X__fullyQualifiedNamespace", "ns.servicebus.windows.net");
    let identity = |extra: &[(&str, &str)]| {
        let mut map: HashMap<String, String> =
            extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        map.insert(endpoint.0.into(), endpoint.1.into());
        BusConnection::resolve("X", |name| map.get(name).cloned()).map(|found| {
            assert_eq!((found.host.as_str(), found.port, found.tls), (endpoint.1, 5671, true));
            found.credential
        })
    };
    let managed = ("X__credential", "ManagedIdentity");
    let user = || Identity::UserAssigned { client_id: "id".into() };
    assert_eq!(identity(&[managed]).unwrap(), Credential::Token(Identity::SystemAssigned));
    assert_eq!(identity(&[managed, ("X__clientId", "id")]).unwrap(), Credential::Token(user()));
    assert_eq!(identity(&[]).unwrap(), Credential::Token(Identity::Developer));
    // In Azure the host falls back to the app's managed identity, not to a developer's.
    let azure = ("IDENTITY_ENDPOINT", "http://127.0.0.1:41/msi");
    assert_eq!(identity(&[azure]).unwrap(), Credential::Token(Identity::SystemAssigned));
    assert_eq!(identity(&[azure, ("X__clientId", "id")]).unwrap(), Credential::Token(user()));
    assert_eq!(
        identity(&[("X__clientId", "id"), ("X__tenantId", "t"), ("X__clientSecret", "s")]).unwrap(),
        Credential::Token(Identity::ClientSecret {
            tenant_id: "t".into(),
            client_id: "id".into(),
            secret: Secret::new("s"),
        })
    );
    let error = identity(&[("X__clientSecret", "hunter2")]).unwrap_err();
    assert_eq!(
        reasons(&error),
        [
            ("X__tenantId", "needed together with clientSecret"),
            ("X__clientId", "needed together with clientSecret"),
        ]
    );
    assert!(identity(&[("X__credential", "password")]).is_err());
}

#[test]
fn bus_connection_strings() {
    let key = Credential::SharedAccessKey {
        name: "RootManageSharedAccessKey".into(),
        key: Secret::new("a+b/c=="),
    };
    let rest = "SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=a+b/c==";
    let parse = |text: String| BusConnection::from_connection_string(&text).unwrap();

    let azure = parse(format!("Endpoint=sb://ns.servicebus.windows.net/;{rest};EntityPath=orders"));
    assert_eq!(
        (azure.host.as_str(), azure.port, azure.tls),
        ("ns.servicebus.windows.net", 5671, true)
    );
    assert_eq!(azure.credential, key);

    let local = parse(format!("Endpoint=sb://127.0.0.1:45123;{rest};UseDevelopmentEmulator=true;"));
    assert_eq!((local.host.as_str(), local.port, local.tls), ("127.0.0.1", 45123, false));
    let default = parse(format!("Endpoint=sb://localhost;{rest};UseDevelopmentEmulator=true"));
    assert_eq!(default.port, 5672);

    let signed = parse(
        "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessSignature=SharedAccessSignature sr=a&sig=b&se=1&skn=c"
            .into(),
    );
    assert_eq!(
        signed.credential,
        Credential::SharedAccessSignature(Secret::new(
            "SharedAccessSignature sr=a&sig=b&se=1&skn=c"
        ))
    );
}

#[test]
fn all_problems_are_told_together_and_no_value_is_repeated() {
    let error = CosmosConnection::resolve(
        "Store",
        settings([("Store", "AccountEndpoint=ftp://hunter2;AccountKey=hunter2!")]),
    )
    .unwrap_err();
    assert_eq!(
        reasons(&error),
        [
            ("Store", "the account endpoint is not an https:// URL"),
            ("Store", "AccountKey is not base64"),
        ]
    );
    let error = BusConnection::resolve(
        "Bus",
        settings([("Bus", "Endpoint=hunter2;TransportType=AmqpWebSockets;hunter2=1")]),
    )
    .unwrap_err();
    let text = error.to_string();
    assert_eq!(error.problems.len(), 4, "{text}");
    assert!(text.contains("SharedAccessKeyName is missing"), "{text}");
    assert!(text.contains("example: Endpoint=sb://"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    let nothing = BusConnection::resolve("Bus", |_| None).unwrap_err();
    assert_eq!(nothing.problems[0].setting, "Bus__fullyQualifiedNamespace");
    let blank = BusConnection::resolve("Bus", settings([("Bus", "  ")])).unwrap_err();
    assert_eq!(blank, nothing);
    let garbage = BusConnection::resolve("Bus", settings([("Bus", "hunter2")])).unwrap_err();
    assert!(!garbage.to_string().contains("hunter2"));

    let both = settings([("Bus", "Endpoint=sb://a.b;"), ("Bus__fullyQualifiedNamespace", "a.b")]);
    assert!(BusConnection::resolve("Bus", both).unwrap_err().to_string().contains("both set"));
    let url = settings([("Bus__fullyQualifiedNamespace", "sb://a.b/")]);
    assert!(BusConnection::resolve("Bus", url).is_err());
}

#[test]
fn plain_http_is_for_this_machine_only() {
    let resolve = |endpoint: &str, emulator: &str| {
        CosmosConnection::resolve(
            "S",
            settings([("S__accountEndpoint", endpoint), ("AZURE_COSMOS_EMULATOR_HOST", emulator)]),
        )
    };
    assert!(resolve("http://localhost:8081/", "").is_ok());
    assert!(resolve("http://[::1]:8081/", "").is_ok());
    assert!(resolve("http://cosmos:8081/", "").is_err());
    assert!(resolve("http://cosmos:8081/", "cosmos").is_ok());
}

#[test]
fn debug_output_shows_no_secret() {
    let store = CosmosConnection::from_connection_string(
        "AccountEndpoint=https://a.documents.azure.com/;AccountKey=aHVudGVyMg==",
    )
    .unwrap();
    let bus = BusConnection::from_connection_string(
        "Endpoint=sb://a.b/;SharedAccessKeyName=rule;SharedAccessKey=hunter2",
    )
    .unwrap();
    let shown = format!("{store:?} {bus:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
}

#[test]
fn a_topic_is_optional_and_opened_by_key_or_identity() {
    let resolve = |pairs| GridConnection::resolve("Grid", pairs);
    assert_eq!(resolve(settings([("", ""); 2])), Ok(None));
    let local = ("Grid__topicEndpointUri", "http://127.0.0.1:6500/orders/api/events");
    let keyed = resolve(settings([local, ("Grid__key", "aHVudGVyMg==")])).unwrap().unwrap();
    assert_eq!(keyed.credential, Credential::Key(Secret::new("aHVudGVyMg==")));
    assert!(!format!("{keyed:?}").contains("aHVudGVyMg"), "{keyed:?}");

    let remote =
        ("Grid__topicEndpointUri", "https://t.westeurope-1.eventgrid.azure.net/api/events");
    let managed = [remote, ("Grid__credential", "managedidentity")];
    let managed = resolve(settings(managed)).unwrap().unwrap();
    assert_eq!(managed.credential, Credential::Token(Identity::SystemAssigned));

    let plain = ("Grid__topicEndpointUri", "http://t.westeurope-1.eventgrid.azure.net/api/events");
    let error = resolve(settings([plain, ("Grid__credential", "certificate")])).unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
}
