//! Who is let in, and what those who are not learn from it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use queue::{EMULATOR_ACCOUNT, EMULATOR_KEY, auth};
use sha2::Sha256;

use crate::harness::{MESSAGES, QUEUE, START_MS, body, start, start_with};

/// Signs with the emulators' key by means of its own, so that a mistake is not made twice.
fn signature(text: &str) -> String {
    let key = STANDARD.decode(EMULATOR_KEY).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// A query with these fields and their signature.
fn query(fields: &BTreeMap<&str, &str>, text: &str) -> String {
    let encode = |value: &str| value.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let all = fields.iter().map(|(name, value)| format!("{name}={}", encode(value)));
    let signature = format!("sig={}", encode(&signature(text)));
    all.chain([signature]).collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn a_wrong_signature_is_refused_without_a_word_about_the_right_one() {
    let service = start().await;
    let date = auth::http_date(START_MS);
    let wrong = format!("SharedKey {EMULATOR_ACCOUNT}:{}", STANDARD.encode([0_u8; 32]));
    let right = signature(&format!(
        "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\n/{EMULATOR_ACCOUNT}{MESSAGES}"
    ));
    let headers = [("x-ms-date", date.as_str()), ("authorization", wrong.as_str())];
    let answer = service.send_unsigned("GET", MESSAGES, &headers, "").await;
    assert_eq!(answer.code(), (403, "AuthenticationFailed"));
    assert!(!answer.text.contains(&right), "{}", answer.text);
    assert!(!answer.text.contains(MESSAGES), "{}", answer.text);
    assert!(!answer.text.contains(&date.replace(' ', "")), "{}", answer.text);
    let authorization = format!("SharedKey {EMULATOR_ACCOUNT}:{right}");
    let headers = [("x-ms-date", date.as_str()), ("authorization", authorization.as_str())];
    assert_eq!(service.send_unsigned("GET", MESSAGES, &headers, "").await.status, 200);
    service.advance_seconds(15 * 60 + 1);
    let late = service.send_unsigned("GET", MESSAGES, &headers, "").await;
    assert_eq!(late.code(), (403, "AuthenticationFailed"));
}

#[tokio::test]
async fn no_credentials_and_strange_ones() {
    let service = start().await;
    let answer = service.send_unsigned("GET", MESSAGES, &[], "").await;
    assert_eq!(answer.code(), (401, "NoAuthenticationInformation"));
    for (value, code) in [
        ("Basic x", (400, "InvalidAuthenticationInfo")),
        ("Bearer x", (401, "InvalidAuthenticationInfo")),
    ] {
        let answer = service.send_unsigned("GET", MESSAGES, &[("authorization", value)], "").await;
        assert_eq!(answer.code(), code, "{value}");
    }
    // Whoever may not ask does not learn what is there either.
    let unknown = service.send_unsigned("GET", "/devstoreaccount1/unknown/messages", &[], "").await;
    assert_eq!(unknown.status, 401);
}

#[tokio::test]
async fn the_account_and_its_key_can_be_others() {
    let key = STANDARD.encode("a key of our own");
    let service = start_with(|options| {
        options.account = "ours".to_owned();
        options.key.clone_from(&key);
    })
    .await;
    assert_eq!(service.send("GET", MESSAGES).await.code(), (403, "AuthenticationFailed"));
    let date = auth::http_date(START_MS);
    let target = "/ours/payments/messages";
    let headers = [("x-ms-date".parse().unwrap(), date.parse().unwrap())].into_iter().collect();
    let token = auth::sign("ours", &key, "GET", target, &headers, 0);
    let sent = [("x-ms-date", date.as_str()), ("authorization", token.as_str())];
    assert_eq!(service.send_unsigned("GET", target, &sent, "").await.status, 200);
}

#[tokio::test]
async fn an_account_signature_opens_what_it_names() {
    let service = start().await;
    let expiry = "2026-01-01T01:00:00Z";
    let fields = BTreeMap::from([
        ("sv", "2024-11-04"),
        ("ss", "q"),
        ("srt", "co"),
        ("sp", "rap"),
        ("se", expiry),
    ]);
    let text = format!("{EMULATOR_ACCOUNT}\nrap\nq\nco\n\n{expiry}\n\n\n2024-11-04\n\n");
    let sas = query(&fields, &text);
    let send = |method: &'static str, target: String, sent: String| {
        let service = &service;
        async move { service.send_unsigned(method, &target, &[], sent).await }
    };
    let put = send("POST", format!("{MESSAGES}?{sas}"), body("x")).await;
    assert_eq!(put.status, 201);
    assert_eq!(send("GET", format!("{MESSAGES}?{sas}"), String::new()).await.status, 200);
    let metadata = send("GET", format!("{QUEUE}?comp=metadata&{sas}"), String::new()).await;
    assert_eq!(metadata.status, 200);
    let clear = send("DELETE", format!("{MESSAGES}?{sas}"), String::new()).await;
    assert_eq!(clear.code(), (403, "AuthorizationPermissionMismatch"));
    let acl = send("GET", format!("{QUEUE}?comp=acl&{sas}"), String::new()).await;
    assert_eq!(acl.code(), (403, "AuthorizationPermissionMismatch"));
    let list = send("GET", format!("/devstoreaccount1?comp=list&{sas}"), String::new()).await;
    assert_eq!(list.code(), (403, "AuthorizationResourceTypeMismatch"));
    let more = sas.replace("sp=rap", "sp=rapd");
    let forged = send("DELETE", format!("{MESSAGES}?{more}"), String::new()).await;
    assert_eq!(forged.code(), (403, "AuthenticationFailed"));
    service.advance_seconds(60 * 60);
    let late = send("GET", format!("{MESSAGES}?{sas}"), String::new()).await;
    assert_eq!(late.code(), (403, "AuthenticationFailed"));
}

#[tokio::test]
async fn a_queue_signature_is_good_for_that_queue() {
    let service = start().await;
    service.send("PUT", "/devstoreaccount1/other").await;
    let policies = "<SignedIdentifiers><SignedIdentifier><Id>put</Id><AccessPolicy>\
        <Expiry>2026-02-01</Expiry><Permission>a</Permission></AccessPolicy></SignedIdentifier>\
        </SignedIdentifiers>";
    let fields = BTreeMap::from([("sv", "2024-11-04"), ("si", "put")]);
    let text = format!("\n\n\n/queue/{EMULATOR_ACCOUNT}/payments\nput\n\n\n2024-11-04");
    let target = format!("{MESSAGES}?{}", query(&fields, &text));
    let early = service.send_unsigned("POST", &target, &[], body("x")).await;
    assert_eq!(early.code(), (403, "AuthenticationFailed"), "no such policy yet");
    service.send_with("PUT", &format!("{QUEUE}?comp=acl"), &[], policies).await;
    assert_eq!(service.send_unsigned("POST", &target, &[], body("x")).await.status, 201);
    let read = service.send_unsigned("GET", &target, &[], "").await;
    assert_eq!(read.code(), (403, "AuthorizationPermissionMismatch"));
    let other = target.replace("payments", "other");
    let refused = service.send_unsigned("POST", &other, &[], body("x")).await;
    assert_eq!(refused.code(), (403, "AuthenticationFailed"));
    service.send("PUT", &format!("{QUEUE}?comp=acl")).await;
    let revoked = service.send_unsigned("POST", &target, &[], body("x")).await;
    assert_eq!(revoked.code(), (403, "AuthenticationFailed"));
}
