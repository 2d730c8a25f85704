//! A journal with a torn tail, with damage in the middle, and after a clean stop.

use std::process::Command;

use super::Place;
use super::client::{Broken, Client, message};
use crate::role::SOON;

async fn send(place: &Place, names: &[&str]) -> Result<(), Broken> {
    let role = place.start().await;
    let mut client = Client::connect(&role.address).await?;
    let mut sender = client.sender("long").await?;
    for name in names {
        sender.send(message(name)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_torn_tail_is_reported_and_damage_stops_the_start() -> Result<(), Broken> {
    let place = Place::new();
    send(&place, &["one", "two", "three"]).await?;
    let path = place.files("log").pop().unwrap();
    let whole = std::fs::read(&path)?;
    // The last message was half written when the process died.
    std::fs::write(&path, &whole[..whole.len() - 100])?;
    let role = place.start().await;
    assert_eq!(role.ready["messages"], 2);
    assert!(role.ready["tornBytes"].as_u64().unwrap() > 100);
    drop(role);

    let mut damaged = whole.clone();
    let second = whole.windows(3).position(|bytes| bytes == b"two").unwrap();
    damaged[second] ^= 0xff;
    for log in place.files("log") {
        std::fs::remove_file(log)?;
    }
    std::fs::write(&path, &damaged)?;
    let start = |further: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
        command.args(["serve", "bus", "--topology"]).arg(place.topology());
        command.arg("--data").arg(place.data()).args(further);
        command
    };
    let refused = start(&[]).output()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(said.contains("is damaged at byte") && said.contains("--repair"), "{said}");
    assert_eq!(std::fs::read(&path)?, damaged, "nothing was changed");

    let mut repairing = start(&["--repair"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    let mut stdout = std::io::BufReader::new(repairing.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut ready)?;
    repairing.kill()?;
    let said = String::from_utf8_lossy(&repairing.wait_with_output()?.stderr).into_owned();
    assert!(ready.contains("\"messages\":2"), "{ready}");
    assert!(said.contains("lost 1"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_clean_stop_leaves_a_snapshot() -> Result<(), Broken> {
    let place = Place::new();
    send(&place, &["one", "two"]).await?;
    let role = place.start().await;
    let mut client = Client::connect(&role.address).await?;
    client.sender("long").await?.send(message("three")).await?;
    tokio::time::timeout(SOON, role.stop()).await?;
    assert_eq!((place.files("snapshot").len(), place.files("log").len()), (1, 0));
    let role = place.start().await;
    assert_eq!(role.ready["messages"], 3);
    Ok(())
}
