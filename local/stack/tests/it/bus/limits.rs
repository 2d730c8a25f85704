//! Every `--max-*` flag of the Service Bus stand-in, and what a client is told beyond it.

use std::time::Duration;

use fe2o3_amqp_types::messaging::{Data, Outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Place;
use super::client::{Broken, Client, id, message, sized};
use crate::role::{Role, SOON};

/// A broker in memory with this limit.
async fn limited(place: &Place, flag: &str, value: &str) -> Role {
    place.start_with(&["--ephemeral", "--operations", "127.0.0.1:0", flag, value]).await
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap()
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() -> Result<(), Broken> {
    let place = Place::new();
    let role = limited(&place, "--max-connections", "1").await;
    let first = soon(Client::connect(&role.address)).await?;
    assert!(soon(Client::connect(&role.address)).await.is_err(), "there is one place");
    drop(first);
    soon(async {
        while Client::connect(&role.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn links_beyond_the_limit_are_refused() -> Result<(), Broken> {
    let place = Place::new();
    let role = limited(&place, "--max-links", "2").await;
    let mut client = soon(Client::connect(&role.address)).await?;
    let (_first, _second) = (client.sender("q").await?, client.sender("long").await?);
    let refused = soon(client.sender("once")).await.err().unwrap();
    let said = format!("{refused:?}");
    assert!(said.contains("FramingError") && said.contains("at most 2 links"), "{said}");
    Ok(())
}

#[tokio::test]
async fn no_more_is_delivered_than_may_be_unsettled() -> Result<(), Broken> {
    let place = Place::new();
    let role = limited(&place, "--max-unsettled", "3").await;
    let mut client = soon(Client::connect(&role.address)).await?;
    let mut sender = client.sender("long").await?;
    for n in 0..6 {
        soon(sender.send(message(&format!("m{n}")))).await?;
    }
    let mut receiver = client.receiver("long", 6).await?;
    let first = soon(receiver.recv::<Data>()).await?;
    for _ in 0..2 {
        soon(receiver.recv::<Data>()).await?;
    }
    assert_eq!(locked(&role).await?, 3, "of six with credit for all");
    receiver.accept(&first).await?;
    assert_eq!(id(&soon(receiver.recv::<Data>()).await?), "m3");
    assert_eq!(locked(&role).await?, 3);
    Ok(())
}

/// Messages of `long` that somebody has locked.
async fn locked(role: &Role) -> Result<u64, Broken> {
    let address = role.ready["operations"].as_str().unwrap();
    let status: serde_json::Value =
        reqwest::Client::new().get(format!("http://{address}/status")).send().await?.json().await?;
    let queues = status["queues"].as_array().unwrap();
    let long = queues.iter().find(|queue| queue["name"] == "long").unwrap();
    Ok(long["locked"].as_u64().unwrap())
}

#[tokio::test]
async fn a_frame_beyond_the_limit_is_a_framing_error() -> Result<(), Broken> {
    let place = Place::new();
    let role = limited(&place, "--max-frame-bytes", "1024").await;
    let mut stream = TcpStream::connect(&role.address).await?;
    // The header of a frame with 2,000 bytes.
    stream.write_all(b"AMQP\x00\x01\x00\x00\x00\x00\x07\xd0\x02\x00\x00\x00").await?;
    let mut said = Vec::new();
    soon(stream.read_to_end(&mut said)).await?;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("amqp:connection:framing-error"), "{said}");
    assert!(said.contains("of 2000 bytes exceeds the announced maximum of 1024"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_and_the_link_goes_on() -> Result<(), Broken> {
    let place = Place::new();
    let role = limited(&place, "--max-message-bytes", "4096").await;
    let mut client = soon(Client::connect(&role.address)).await?;
    let mut sender = client.sender("q").await?;
    assert_eq!(sender.max_message_size(), Some(4_096));
    let refused = soon(sender.send(sized("large", 5_000))).await;
    assert!(format!("{refused:?}").contains("MessageSizeExceeded"), "{refused:?}");
    let accepted = soon(sender.send(sized("small", 3_000))).await?;
    assert!(matches!(accepted, Outcome::Accepted(_)), "{accepted:?}");
    Ok(())
}

#[tokio::test]
async fn memory_is_refused_without_a_journal_and_spared_with_one() -> Result<(), Broken> {
    let place = Place::new();
    let role = limited(&place, "--max-memory-bytes", "100000").await;
    let mut client = soon(Client::connect(&role.address)).await?;
    let mut sender = client.sender("long").await?;
    let mut accepted = 0;
    let refused = loop {
        match soon(sender.send(sized("m", 10_000))).await? {
            Outcome::Accepted(_) => accepted += 1,
            other => break format!("{other:?}"),
        }
        assert!(accepted < 10, "more than fits");
    };
    assert_eq!(accepted, 9);
    assert!(refused.contains("ResourceLimitExceeded"), "{refused}");
    assert!(refused.contains("in memory have reached their maximum size of 100000"), "{refused}");
    drop(role);

    let role = place.start_with(&["--max-memory-bytes", "100000"]).await;
    let mut client = soon(Client::connect(&role.address)).await?;
    let mut sender = client.sender("long").await?;
    for n in 0..30 {
        let outcome = soon(sender.send(sized(&format!("m{n}"), 10_000))).await?;
        assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    }
    let mut receiver = client.receiver("long", 30).await?;
    for n in 0..30 {
        let delivery = soon(receiver.recv::<Data>()).await?;
        assert_eq!((id(&delivery), delivery.body().0.len()), (format!("m{n}"), 10_000));
        receiver.accept(&delivery).await?;
    }
    Ok(())
}

#[test]
fn a_limit_that_leaves_nothing_or_cannot_be_kept_is_refused() {
    let place = Place::new();
    for (flag, values) in [
        ("--max-connections", ["0", "18446744073709551615"]),
        ("--max-links", ["0", "-1"]),
        ("--max-unsettled", ["0", "many"]),
        ("--max-frame-bytes", ["511", "4294967296"]),
        // Beyond what a record of the journal holds.
        ("--max-message-bytes", ["0", "20000000"]),
        ("--max-memory-bytes", ["0", "-1"]),
    ] {
        for value in values {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stack"));
            command.args(["serve", "bus", "--ephemeral", "--topology"]).arg(place.topology());
            let refused = command.arg(format!("{flag}={value}")).output().unwrap();
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(2), "{flag} {value}: {said}");
            assert!(said.contains(flag) && said.contains(value), "{said}");
        }
    }
}
