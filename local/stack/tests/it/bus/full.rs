//! A disk that takes nothing more.

use std::process::Command;

use fe2o3_amqp_types::messaging::Outcome;

use super::Place;
use super::client::{Broken, Client, sized};
use crate::role::SOON;

/// Blocks of 512 bytes that a file may have: the size of some 60 messages.
const BLOCKS: &str = "6000";

#[tokio::test]
async fn nothing_is_acknowledged_that_the_disk_does_not_take() -> Result<(), Broken> {
    let place = Place::new();
    let mut limited = Command::new("sh");
    // Writes beyond the limit then fail, as on a full disk, instead of killing the process.
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$0\" \"$@\"");
    limited.args(["-c", &script, env!("CARGO_BIN_EXE_stack")]);
    let data = place.data();
    let mut role = place.start_as(limited, &[&["--data".as_ref(), data.as_ref()]]).await;
    let mut idle = Client::connect(&role.address).await?;
    let mut client = Client::connect(&role.address).await?;
    let mut sender = client.sender("long").await?;
    let mut acknowledged = 0;
    let said = loop {
        let sent = tokio::time::timeout(SOON, async {
            tokio::select! {
                sent = sender.send(sized("m", 50_000)) => Ok(sent),
                ended = client.end() => Err(ended),
            }
        });
        match sent.await? {
            Ok(Ok(Outcome::Accepted(_))) => acknowledged += 1,
            Ok(Ok(other)) => panic!("{other:?}"),
            Ok(Err(_)) => break tokio::time::timeout(SOON, client.end()).await?,
            Err(ended) => break ended,
        }
        assert!(acknowledged < 1_000, "more than the disk takes");
    };
    assert!(acknowledged > 10, "{acknowledged}");
    for ended in [said, tokio::time::timeout(SOON, idle.end()).await?] {
        let said = format!("{ended:?}");
        assert!(said.contains("cannot write its journal"), "{said}");
    }
    assert_eq!(tokio::time::timeout(SOON, role.exit_code()).await?, Some(1));

    let role = place.start().await;
    assert_eq!(role.ready["messages"], acknowledged);
    Ok(())
}
