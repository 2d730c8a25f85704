//! Clients that ask for everything and read nothing.

use std::time::Duration;

use fe2o3_amqp_types::messaging::{Data, Outcome};

use super::Place;
use super::client::{Broken, Client, id, message, sized};

const MESSAGES: u32 = 200;

/// Below the limit of a mebibyte, properties included.
const MESSAGE_BYTES: usize = 1_000_000;

const SLOW: usize = 6;

/// What the broker may take for all this, of 200 MB that the clients ask for: for each of them the
/// output, a message in pieces and what it was assigned beyond, some five megabytes, and what the
/// broker is by itself.
const MEMORY_BYTES_MAX: u64 = 100 * 1_048_576;

/// Ample for 200 MB to the disk and back, on a busy machine.
const WITHIN: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_cost_bounded_memory_and_harm_nobody() -> Result<(), Broken> {
    let place = Place::new();
    let role = place.start_with(&["--no-fsync", "--max-memory-bytes", "4000000"]).await;
    let test = async {
        let mut client = Client::connect(&role.address).await?;
        let mut sender = client.sender("long").await?;
        for n in 0..MESSAGES {
            let outcome = sender.send(sized(&format!("m{n}"), MESSAGE_BYTES)).await?;
            assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
        }
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let (mut reader, stop) = Client::connect_stoppable(&role.address).await?;
            let mut receiver = reader.receiver("long", 0).await?;
            stop.cancel();
            receiver.set_credit(MESSAGES).await?;
            slow.push((reader, receiver));
        }
        // Others are served meanwhile, one message after another.
        let mut sender = client.sender("q").await?;
        let mut receiver = client.receiver("q", 1).await?;
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
        // What was not sent to them is there for one who reads, once they are gone.
        drop(slow);
        let mut receiver = client.receiver("long", MESSAGES).await?;
        for _ in 0..MESSAGES / 2 {
            let delivery = receiver.recv::<Data>().await?;
            assert_eq!(delivery.body().0.len(), MESSAGE_BYTES);
            receiver.accept(&delivery).await?;
        }
        Ok(())
    };
    tokio::time::timeout(WITHIN, test).await?
}
