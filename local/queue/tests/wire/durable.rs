//! What is on the disk once a request is answered, and what a start makes of it.

use std::path::{Path, PathBuf};

use journal::OpenError;
use queue::{BindError, Options, Server};

use crate::harness::{MESSAGES, QUEUE, Service, body, start_with};

/// A directory of the test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("queue-{}", uuid::Uuid::new_v4())))
    }

    /// What a crash at this moment would leave: the files as the system has them.
    fn crashed(&self) -> Self {
        let copy = Self::new();
        std::fs::create_dir(&copy.0).unwrap();
        for entry in std::fs::read_dir(&self.0).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.0.join(entry.file_name())).unwrap();
        }
        copy
    }

    async fn start(&self) -> Service {
        start_with(|options| options.data = Some(self.0.clone())).await
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn stop(service: Service) {
    service.shutdown.cancel();
    service.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn whatever_was_answered_survives_a_crash_right_after_the_answer() {
    let scratch = Scratch::new();
    let service = scratch.start().await;
    for text in ["kept", "taken", "changed", "done"] {
        service.put(text, "").await;
    }
    let kept = service.get("").await;
    let hidden = service.get("?visibilitytimeout=600").await;
    let held = service.get("?visibilitytimeout=600").await;
    let target = format!("{}&visibilitytimeout=600", held.held());
    let updated = service.send_with("PUT", &target, &[], body("new")).await;
    assert_eq!(updated.status, 204, "{}", updated.text);
    let done = service.get("").await;
    assert_eq!(service.send("DELETE", &done.held()).await.status, 204);
    let metadata = [("x-ms-meta-owner", "me")];
    let target = format!("{QUEUE}?comp=metadata");
    assert_eq!(service.send_with("PUT", &target, &metadata, "").await.status, 204);
    let further = "/devstoreaccount1/further";
    assert_eq!(service.send("PUT", further).await.status, 201);
    assert_eq!(
        service.send("DELETE", QUEUE.replace("payments", "further").as_str()).await.status,
        204
    );

    let after_crash = scratch.crashed();
    let again = after_crash.start().await;
    assert_eq!(again.send("GET", &format!("{further}?comp=metadata")).await.status, 404);
    let found = again.send("GET", &format!("{QUEUE}?comp=metadata")).await;
    assert_eq!(found.header("x-ms-meta-owner"), "me");
    assert_eq!(found.header("x-ms-approximate-messages-count"), "3");
    assert_eq!(again.get("?numofmessages=32").await.elements("MessageText"), [""; 0]);
    // Receipts of before count, and only the latest of each message.
    assert_eq!(again.send("DELETE", &hidden.held()).await.status, 204);
    assert_eq!(again.send("DELETE", &held.held()).await.code(), (400, "PopReceiptMismatch"));
    again.advance_seconds(31);
    let back = again.get("?numofmessages=32").await;
    assert_eq!(back.elements("MessageText"), ["kept"]);
    assert_eq!(back.elements("DequeueCount"), ["2"]);
    assert_eq!(back.element("MessageId"), kept.element("MessageId"));
    again.advance_seconds(600);
    let texts = again.get("?numofmessages=32").await;
    assert_eq!(texts.elements("MessageText"), ["kept", "new"]);
    stop(again).await;
    stop(service).await;
}

#[tokio::test]
async fn ids_and_receipts_never_come_back_after_a_start() {
    let scratch = Scratch::new();
    let (mut ids, mut receipts) = (Vec::new(), Vec::new());
    for start in 0..3 {
        let service = scratch.start().await;
        for _ in 0..3 {
            let put = service.put("x", "").await;
            ids.push(put.element("MessageId").to_owned());
            receipts.push(put.element("PopReceipt").to_owned());
        }
        let there = service.send("GET", &format!("{QUEUE}?comp=metadata")).await;
        let count = (3 * (start + 1)).to_string();
        assert_eq!(there.header("x-ms-approximate-messages-count"), count);
        stop(service).await;
    }
    for values in [&mut ids, &mut receipts] {
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 9);
    }
}

#[tokio::test]
async fn a_stop_leaves_a_snapshot_and_settings_are_in_it() {
    let scratch = Scratch::new();
    let service = scratch.start().await;
    service.put("x &amp; y", "").await;
    let policies = "<SignedIdentifiers><SignedIdentifier><Id>readers</Id><AccessPolicy>\
        <Permission>r</Permission></AccessPolicy></SignedIdentifier></SignedIdentifiers>";
    let target = format!("{QUEUE}?comp=acl");
    assert_eq!(service.send_with("PUT", &target, &[], policies).await.status, 204);
    let settings = "<StorageServiceProperties><Cors><CorsRule><AllowedOrigins>*</AllowedOrigins>\
        <AllowedMethods>GET</AllowedMethods><AllowedHeaders/><ExposedHeaders/>\
        <MaxAgeInSeconds>5</MaxAgeInSeconds></CorsRule></Cors></StorageServiceProperties>";
    let account = "/devstoreaccount1?restype=service&comp=properties";
    let put = service.send_with("PUT", account, &[], settings).await;
    assert_eq!(put.status, 202, "{}", put.text);
    stop(service).await;
    let kept = names(&scratch.0);
    assert!(kept.iter().any(|name| name.ends_with(".snapshot")), "{kept:?}");

    let again = scratch.start().await;
    assert_eq!(again.get("").await.element("MessageText"), "x &amp; y");
    assert_eq!(again.send("GET", &target).await.element("Id"), "readers");
    assert_eq!(again.send("GET", account).await.element("MaxAgeInSeconds"), "5");
    assert_eq!(again.send("GET", &format!("{MESSAGES}?peekonly=true")).await.status, 200);
    stop(again).await;
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn damaged_data_and_a_second_process_stop_the_start() {
    let scratch = Scratch::new();
    let service = scratch.start().await;
    service.put("x", "").await;
    service.put("y", "").await;
    let options = || Options { data: Some(scratch.0.clone()), ..Options::default() };
    let second = Server::bind(options()).await.err();
    assert!(matches!(second, Some(BindError::Data(OpenError::Locked(_)))), "{second:?}");
    stop(service).await;

    let snapshot = names(&scratch.0).into_iter().find(|name| name.ends_with(".snapshot")).unwrap();
    let path = scratch.0.join(snapshot);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = Server::bind(options()).await.err();
    assert!(matches!(damaged, Some(BindError::Data(OpenError::Damaged { .. }))), "{damaged:?}");
}
