//! Put, get, peek, update, delete and clear, with their limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::harness::{MESSAGES, body, start};

const DAYS_7: u64 = 7 * 24 * 60 * 60;

#[tokio::test]
async fn a_message_goes_through_its_life() {
    let service = start().await;
    let put = service.put("a &amp; b", "").await;
    assert_eq!((put.status, put.header("content-type")), (201, "application/xml"));
    assert_eq!(put.element("InsertionTime"), "Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(put.element("ExpirationTime"), "Thu, 08 Jan 2026 00:00:00 GMT");
    assert_eq!(put.element("TimeNextVisible"), "Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(put.elements("MessageText"), Vec::<&str>::new());

    let peeked = service.get("?peekonly=true").await;
    assert_eq!((peeked.status, peeked.element("MessageText")), (200, "a &amp; b"));
    assert_eq!(peeked.element("DequeueCount"), "0");
    assert_eq!(peeked.elements("PopReceipt"), Vec::<&str>::new());
    assert_eq!(peeked.elements("TimeNextVisible"), Vec::<&str>::new());

    let taken = service.get("").await;
    assert_eq!((taken.status, taken.element("MessageText")), (200, "a &amp; b"));
    assert_eq!(taken.element("MessageId"), put.element("MessageId"));
    assert_eq!(taken.element("DequeueCount"), "1");
    assert_eq!(taken.element("TimeNextVisible"), "Thu, 01 Jan 2026 00:00:30 GMT");
    assert_ne!(taken.element("PopReceipt"), put.element("PopReceipt"));
    let nothing = service.get("").await;
    assert_eq!(nothing.status, 200);
    assert!(nothing.text.ends_with("<QueueMessagesList />"), "{}", nothing.text);

    assert_eq!(service.send("DELETE", &put.held()).await.code(), (400, "PopReceiptMismatch"));
    assert_eq!(service.send("DELETE", &taken.held()).await.code(), (204, ""));
    assert_eq!(service.send("DELETE", &taken.held()).await.code(), (404, "MessageNotFound"));
}

#[tokio::test]
async fn time_makes_messages_visible_and_ends_them() {
    let service = start().await;
    service.put("later", "?visibilitytimeout=10&messagettl=20").await;
    let forever = service.put("for ever", "?messagettl=-1").await;
    assert_eq!(forever.element("ExpirationTime"), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(service.get("?numofmessages=32").await.elements("MessageId").len(), 1);
    service.advance_seconds(10);
    let later = service.get("?visibilitytimeout=5&numofmessages=32").await;
    assert_eq!(later.elements("MessageText"), ["later"]);
    service.advance_seconds(5);
    assert_eq!(service.get("?visibilitytimeout=1").await.element("DequeueCount"), "2");
    service.advance_seconds(5);
    assert_eq!(service.send("DELETE", &later.held()).await.code(), (404, "MessageNotFound"));
}

#[tokio::test]
async fn an_update_answers_with_the_receipt_to_go_on_with() {
    let service = start().await;
    service.put("old", "").await;
    let taken = service.get("").await;
    let target = format!("{}&visibilitytimeout=60", taken.held());
    let updated = service.send_with("PUT", &target, &[], body("new")).await;
    assert_eq!(updated.code(), (204, ""));
    assert_eq!(updated.header("x-ms-time-next-visible"), "Thu, 01 Jan 2026 00:01:00 GMT");
    let stale = service.send_with("PUT", &target, &[], body("stale")).await;
    assert_eq!(stale.code(), (400, "PopReceiptMismatch"));

    let receipt = updated.header("x-ms-popreceipt").replace('+', "%2B").replace('=', "%3D");
    let held = format!("{MESSAGES}/{}?popreceipt={receipt}", taken.element("MessageId"));
    let shown = service.send("PUT", &format!("{held}&visibilitytimeout=0")).await;
    assert_eq!(shown.code(), (204, ""));
    let again = service.get("").await;
    assert_eq!((again.element("MessageText"), again.element("DequeueCount")), ("new", "2"));

    assert_eq!(
        service.send("PUT", &again.held()).await.code(),
        (400, "MissingRequiredQueryParameter")
    );
    let beyond = format!("{}&visibilitytimeout={DAYS_7}", again.held());
    service.advance_seconds(1);
    assert_eq!(service.send("PUT", &beyond).await.code(), (400, "InvalidQueryParameterValue"));
}

#[tokio::test]
async fn numbers_out_of_range_are_named() {
    let service = start().await;
    for (method, query, code) in [
        ("GET", "?numofmessages=0".to_owned(), "OutOfRangeQueryParameterValue"),
        ("GET", "?numofmessages=33".to_owned(), "OutOfRangeQueryParameterValue"),
        ("GET", "?peekonly=true&numofmessages=33".to_owned(), "OutOfRangeQueryParameterValue"),
        ("GET", "?numofmessages=two".to_owned(), "InvalidQueryParameterValue"),
        ("GET", "?visibilitytimeout=0".to_owned(), "OutOfRangeQueryParameterValue"),
        ("GET", format!("?visibilitytimeout={}", DAYS_7 + 1), "OutOfRangeQueryParameterValue"),
        ("POST", format!("?visibilitytimeout={}", DAYS_7 + 1), "OutOfRangeQueryParameterValue"),
        ("POST", "?visibilitytimeout=-1".to_owned(), "OutOfRangeQueryParameterValue"),
        ("POST", "?messagettl=0".to_owned(), "InvalidQueryParameterValue"),
        ("POST", "?messagettl=-2".to_owned(), "OutOfRangeQueryParameterValue"),
        ("POST", "?messagettl=9&visibilitytimeout=9".to_owned(), "InvalidQueryParameterValue"),
        ("POST", format!("?visibilitytimeout={DAYS_7}"), "InvalidQueryParameterValue"),
    ] {
        let sent = if method == "POST" { body("x") } else { String::new() };
        let answer = service.send_with(method, &format!("{MESSAGES}{query}"), &[], sent).await;
        assert_eq!(answer.code(), (400, code), "{query}");
        assert!(!answer.element("QueryParameterName").is_empty(), "{}", answer.text);
    }
    let answer = service.get("?numofmessages=33").await;
    assert_eq!(
        ["QueryParameterName", "QueryParameterValue", "MinimumAllowed", "MaximumAllowed"]
            .map(|name| answer.element(name)),
        ["numofmessages", "33", "1", "32"]
    );
    assert_eq!(service.get("?peekonly=true").await.elements("QueueMessage").len(), 0);
    let longest = format!("?messagettl=-1&visibilitytimeout={DAYS_7}");
    assert_eq!(service.put("x", &longest).await.status, 201);
}

#[tokio::test]
async fn what_is_no_message_is_not_taken_for_one() {
    let service = start().await;
    for (sent, code) in [
        (String::new(), (400, "InvalidXmlDocument")),
        ("plain".to_owned(), (400, "InvalidXmlDocument")),
        ("<QueueMessage><MessageText>x".to_owned(), (400, "InvalidXmlDocument")),
        ("<QueueMessage/>".to_owned(), (400, "MissingRequiredXmlNode")),
        ("<Other><MessageText>x</MessageText></Other>".to_owned(), (400, "MissingRequiredXmlNode")),
        (body("<b>x</b>"), (400, "InvalidXmlNodeValue")),
        (body(&"x".repeat(64 * 1024 + 1)), (413, "RequestBodyTooLarge")),
        (body(&"x".repeat(600 * 1024)), (413, "RequestBodyTooLarge")),
    ] {
        let answer = service.send_with("POST", MESSAGES, &[], sent).await;
        assert_eq!(answer.code(), code);
    }
    assert_eq!(service.get("?peekonly=true").await.elements("QueueMessage").len(), 0);
    // The limit counts the text, not how it is written.
    let longest = service.put(&"&quot;".repeat(64 * 1024), "").await;
    assert_eq!(longest.status, 201);
    assert_eq!(service.put("", "").await.status, 201, "an empty message is one");
    assert_eq!(service.get("?numofmessages=2").await.elements("MessageText").len(), 1);
}

#[tokio::test]
async fn receipts_and_ids_that_never_were() {
    let service = start().await;
    let put = service.put("x", "").await;
    let id = put.element("MessageId");
    for (target, code) in [
        (format!("{MESSAGES}/{id}"), (400, "MissingRequiredQueryParameter")),
        (format!("{MESSAGES}/{id}?popreceipt=nonsense"), (400, "InvalidQueryParameterValue")),
        (put.held().replace(id, "nonsense"), (404, "MessageNotFound")),
        (put.held().replace(id, "00000000-0000-0000-0000-000000000000"), (404, "MessageNotFound")),
        (put.held().replace("payments", "unknown"), (404, "QueueNotFound")),
    ] {
        assert_eq!(service.send("DELETE", &target).await.code(), code, "{target}");
    }
    // A receipt that was sent without encoding its Base64 still counts.
    let receipt = put.element("PopReceipt");
    let raw = format!("{MESSAGES}/{id}?popreceipt={receipt}");
    assert_eq!(service.send("DELETE", &raw).await.status, 204);
}

#[tokio::test]
async fn clearing_leaves_nothing() {
    let service = start().await;
    for _ in 0..3 {
        service.put("x", "").await;
    }
    let taken = service.get("").await;
    assert_eq!(service.send("DELETE", MESSAGES).await.code(), (204, ""));
    assert_eq!(service.send("DELETE", &taken.held()).await.code(), (404, "MessageNotFound"));
    assert_eq!(service.get("").await.elements("QueueMessage").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_takers_share_the_messages() {
    let service = Arc::new(start().await);
    for _ in 0..40 {
        service.put("x", "").await;
    }
    let mut takers = JoinSet::new();
    for _ in 0..8 {
        let service = service.clone();
        takers.spawn(async move { service.get("?numofmessages=5").await });
    }
    let answers = takers.join_all().await;
    let ids = answers.iter().flat_map(|answer| answer.elements("MessageId"));
    let all: Vec<&str> = ids.collect();
    let distinct: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (40, 40), "lost, or handed out twice");
}
