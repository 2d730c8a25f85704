//! Clients that ask for everything and read nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use fe2o3_amqp_types::messaging::{Data, Outcome};

use super::Place;
use super::client::{Broken, Client, id, message, sized};

const MESSAGES: u32 = 140;

/// Below the limit of a mebibyte, properties included.
const MESSAGE_BYTES: usize = 1_000_000;

const SLOW: usize = 6;

/// What the broker may take for all this, of 140 MB that the clients ask for: for each of them the
/// output, a message in pieces and what it was assigned beyond, some five megabytes, and what the
/// broker is by itself.
const MEMORY_BYTES_MAX: u64 = 100 * 1_048_576;

/// Ample for 140 MB to the disk and back, on a busy machine.
const WITHIN: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_cost_bounded_memory_and_harm_nobody() -> Result<(), Broken> {
    let place = Place::new();
    let role = place.start_with(&["--no-fsync", "--max-memory-bytes", "4000000"]).await;
    let test = async {
        let mut client = Client::connect(&role.address).await?;
        let mut sender = client.sender("q").await?;
        for n in 0..MESSAGES {
            let outcome = sender.send(sized(&format!("m{n}"), MESSAGE_BYTES)).await?;
            assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
        }
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let (mut reader, stop) = Client::connect_stoppable(&role.address).await?;
            let mut receiver = reader.receiver("q", 0).await?;
            stop.cancel();
            receiver.set_credit(MESSAGES).await?;
            slow.push((reader, receiver));
        }
        // Others are served meanwhile, one message after another.
        let mut sender = client.sender("long").await?;
        let mut receiver = client.receiver("long", 1).await?;
        for n in 0..100 {
            sender.send(message(&format!("s{n}"))).await?;
            let delivery = receiver.recv::<Data>().await?;
            assert_eq!(id(&delivery), format!("s{n}"));
            receiver.accept(&delivery).await?;
            receiver.set_credit(1).await?;
        }
        let (now, most) = role.memory();
        println!("{SLOW} slow readers: {now} bytes, at most {most}");
        assert!(most < MEMORY_BYTES_MAX, "{most} bytes");
        // Everything is there for one who reads, what was sent to them once their locks are over.
        drop(slow);
        let mut receiver = client.receiver("q", 1).await?;
        let mut missing: BTreeSet<String> = (0..MESSAGES).map(|n| format!("m{n}")).collect();
        while !missing.is_empty() {
            let delivery = receiver.recv::<Data>().await?;
            assert_eq!(delivery.body().0.len(), MESSAGE_BYTES);
            missing.remove(&id(&delivery));
            receiver.accept(&delivery).await?;
            receiver.set_credit(1).await?;
        }
        Ok(())
    };
    tokio::time::timeout(WITHIN, test).await?
}
