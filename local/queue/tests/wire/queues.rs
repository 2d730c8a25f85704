//! Queues, their metadata and policies, and the account's settings.

use std::time::Duration;

use crate::harness::{QUEUE, start, start_with};

const ACCOUNT: &str = "/devstoreaccount1";

#[tokio::test]
async fn creating_is_idempotent_as_far_as_metadata_agree() {
    let service = start().await;
    let create = |name: &'static str, value: &'static str| {
        let service = &service;
        async move {
            let headers = [("x-ms-meta-owner", value)];
            let target = format!("{ACCOUNT}/{name}");
            service.send_with("PUT", &target, &headers, "").await
        }
    };
    assert_eq!(create("orders", "a").await.code(), (201, ""));
    assert_eq!(create("orders", "a").await.code(), (204, ""));
    assert_eq!(create("orders", "b").await.code(), (409, "QueueAlreadyExists"));
    assert_eq!(create("Orders", "a").await.code(), (400, "InvalidResourceName"));
    assert_eq!(create("a--b", "a").await.code(), (400, "InvalidResourceName"));
    assert_eq!(create("or", "a").await.code(), (400, "OutOfRangeInput"));
    let found = service.send("GET", "/devstoreaccount1/orders?comp=metadata").await;
    assert_eq!((found.status, found.header("x-ms-meta-owner")), (200, "a"));
    assert_eq!(service.send("DELETE", "/devstoreaccount1/orders").await.code(), (204, ""));
    let gone = service.send("DELETE", "/devstoreaccount1/orders").await;
    assert_eq!(gone.code(), (404, "QueueNotFound"));
}

#[tokio::test]
async fn a_deleted_name_rests_where_that_is_asked_for() {
    let service = start_with(|options| options.deletion = Duration::from_secs(30)).await;
    assert_eq!(service.send("DELETE", QUEUE).await.status, 204);
    assert_eq!(service.send("PUT", QUEUE).await.code(), (409, "QueueBeingDeleted"));
    assert_eq!(service.put("x", "").await.code(), (409, "QueueBeingDeleted"));
    service.advance_seconds(30);
    assert_eq!(service.put("x", "").await.code(), (404, "QueueNotFound"));
    assert_eq!(service.send("PUT", QUEUE).await.code(), (201, ""));
}

#[tokio::test]
async fn metadata_are_replaced_as_a_whole() {
    let service = start().await;
    let target = format!("{QUEUE}?comp=metadata");
    let both = [("x-ms-meta-one", "1"), ("x-ms-meta-two_2", "b c")];
    assert_eq!(service.send_with("PUT", &target, &both, "").await.code(), (204, ""));
    for _ in 0..3 {
        service.put("x", "").await;
    }
    service.get("").await;
    let found = service.send("HEAD", &target).await;
    assert_eq!((found.status, found.header("x-ms-approximate-messages-count")), (200, "3"));
    assert_eq!((found.header("x-ms-meta-one"), found.header("x-ms-meta-two_2")), ("1", "b c"));
    assert_eq!(service.send("PUT", &target).await.code(), (204, ""));
    let found = service.send("GET", &target).await;
    assert!(!found.headers.contains_key("x-ms-meta-one"));
    let long = "x".repeat(8 * 1024);
    for (name, value, code) in [
        ("x-ms-meta-", "1", "EmptyMetadataKey"),
        ("x-ms-meta-2a", "1", "InvalidMetadata"),
        ("x-ms-meta-a-b", "1", "InvalidMetadata"),
        ("x-ms-meta-a", long.as_str(), "MetadataTooLarge"),
    ] {
        let answer = service.send_with("PUT", &target, &[(name, value)], "").await;
        assert_eq!(answer.code(), (400, code), "{name}");
    }
}

#[tokio::test]
async fn listings_come_in_pages() {
    let service = start().await;
    for name in ["alpha-1", "alpha-2", "alpha-3"] {
        let headers = [("x-ms-meta-n", "&")];
        service.send_with("PUT", &format!("{ACCOUNT}/{name}"), &headers, "").await;
    }
    let all = service.send("GET", &format!("{ACCOUNT}/?comp=list")).await;
    assert_eq!(all.elements("Name"), ["alpha-1", "alpha-2", "alpha-3", "payments"]);
    let endpoint = format!("ServiceEndpoint=\"http://{}/devstoreaccount1\"", service.address);
    assert!(all.text.contains(&endpoint), "{}", all.text);
    assert!(all.text.contains("<NextMarker />"), "{}", all.text);
    let target = format!("{ACCOUNT}?comp=list&prefix=alpha&maxresults=2&include=metadata");
    let page = service.send("GET", &target).await;
    assert_eq!(page.elements("Name"), ["alpha-1", "alpha-2"]);
    assert_eq!(page.elements("Metadata"), ["<n>&amp;</n>", "<n>&amp;</n>"]);
    let rest =
        service.send("GET", &format!("{target}&marker={}", page.element("NextMarker"))).await;
    assert_eq!(rest.elements("Name"), ["alpha-3"]);
    for (number, code) in [
        ("0", "OutOfRangeQueryParameterValue"),
        ("5001", "OutOfRangeQueryParameterValue"),
        ("x", "InvalidQueryParameterValue"),
    ] {
        let target = format!("{ACCOUNT}?comp=list&maxresults={number}");
        assert_eq!(service.send("GET", &target).await.code(), (400, code));
    }
}

#[tokio::test]
async fn policies_are_given_back_as_they_were_set() {
    let service = start().await;
    let target = format!("{QUEUE}?comp=acl");
    let policies = "<SignedIdentifiers><SignedIdentifier><Id>readers</Id><AccessPolicy>\
        <Start>2026-01-01</Start><Expiry>2026-02-01T00:00:00Z</Expiry><Permission>r</Permission>\
        </AccessPolicy></SignedIdentifier></SignedIdentifiers>";
    assert_eq!(service.send_with("PUT", &target, &[], policies).await.code(), (204, ""));
    let found = service.send("GET", &target).await;
    assert_eq!(found.status, 200);
    assert!(found.text.ends_with(policies), "{}", found.text);
    let six = format!(
        "<SignedIdentifiers>{}</SignedIdentifiers>",
        "<SignedIdentifier><Id>x</Id></SignedIdentifier>".repeat(6)
    );
    assert_eq!(
        service.send_with("PUT", &target, &[], six).await.code(),
        (400, "InvalidXmlDocument")
    );
    let late = policies.replace("2026-02-01T00:00:00Z", "tomorrow");
    let answer = service.send_with("PUT", &target, &[], late).await;
    assert_eq!(
        (answer.code(), answer.element("XmlNodeName")),
        ((400, "InvalidXmlNodeValue"), "Expiry")
    );
    assert_eq!(service.send("PUT", &target).await.code(), (204, ""));
    assert!(service.send("GET", &target).await.text.ends_with("<SignedIdentifiers />"));
    let unknown = "/devstoreaccount1/unknown?comp=acl";
    assert_eq!(service.send("GET", unknown).await.code(), (404, "QueueNotFound"));
}

#[tokio::test]
async fn settings_that_are_not_named_stay() {
    let service = start().await;
    let target = format!("{ACCOUNT}/?restype=service&comp=properties");
    let defaults = service.send("GET", &target).await;
    assert_eq!(defaults.status, 200);
    assert_eq!(defaults.element("Version"), "1.0");
    let change = "<StorageServiceProperties><Cors><CorsRule><AllowedOrigins>*</AllowedOrigins>\
        </CorsRule></Cors></StorageServiceProperties>";
    assert_eq!(service.send_with("PUT", &target, &[], change).await.code(), (202, ""));
    let found = service.send("GET", &target).await;
    assert_eq!(found.element("AllowedOrigins"), "*");
    assert_eq!(found.element("Logging"), defaults.element("Logging"));
    let other = "<StorageServiceProperties><Blob/></StorageServiceProperties>";
    assert_eq!(
        service.send_with("PUT", &target, &[], other).await.code(),
        (400, "InvalidXmlDocument")
    );
    let stats = "/devstoreaccount1-secondary/?restype=service&comp=stats";
    assert_eq!(service.send("GET", stats).await.element("Status"), "live");
}
