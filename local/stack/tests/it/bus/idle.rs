//! Ten thousand connections that say hello and then nothing.

use std::process::Command;
use std::time::Duration;

use fe2o3_amqp_types::messaging::Data;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Place;
use super::client::{Broken, Client, id, message};

const CONNECTIONS: usize = 10_000;

/// Descriptors of this process beside the connections, other tests included.
const OTHER_DESCRIPTORS: u64 = 500;

/// What one idle connection may cost the broker, in bytes: the socket's buffers are the system's.
const BYTES_EACH_MAX: u64 = 16_384;

/// The room for descriptors that shells start a process with.
const USUAL_DESCRIPTORS: &str = "1024";

/// Ample for ten thousand connections, on a busy machine.
const WITHIN: Duration = Duration::from_secs(240);

/// The AMQP header and an Open with the container-id `idle` and no time-out.
const HELLO: &[u8] =
    b"AMQP\x00\x01\x00\x00\x00\x00\x00\x14\x02\x00\x00\x00\x00\x53\x10\xc0\x07\x01\xa1\x04idle";

/// Opens a connection and waits for the broker's Open.
async fn open(address: &str) -> Result<TcpStream, Broken> {
    let mut stream = TcpStream::connect(address).await?;
    // Nobody waits for these sockets when they are closed.
    stream.set_zero_linger()?;
    stream.write_all(HELLO).await?;
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    assert_eq!(head[..8], *b"AMQP\x00\x01\x00\x00");
    let length = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    let mut rest = vec![0; length as usize - 8];
    stream.read_exact(&mut rest).await?;
    assert_eq!(rest[..3], [0x00, 0x53, 0x10], "an Open");
    Ok(stream)
}

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little_and_harm_nobody() -> Result<(), Broken> {
    let wanted = CONNECTIONS as u64 + OTHER_DESCRIPTORS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < wanted {
        println!("skipped: this process may have {hard} descriptors, and {wanted} are needed");
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard)?;
    let place = Place::new();
    // The broker itself sees to it that it may have as many.
    let mut shell = Command::new("sh");
    let script = format!("ulimit -S -n {USUAL_DESCRIPTORS} && exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_stack")]);
    let role = place.start_as(shell, &[&["--ephemeral".as_ref()]]).await;
    let (before, _) = role.memory();

    let mut idle = Vec::with_capacity(CONNECTIONS);
    let opening = async {
        for _ in 0..CONNECTIONS {
            idle.push(open(&role.address).await?);
        }
        Ok::<_, Broken>(())
    };
    tokio::time::timeout(WITHIN, opening).await??;
    let (after, _) = role.memory();
    let each = after.saturating_sub(before) / CONNECTIONS as u64;
    println!("{CONNECTIONS} idle connections: {each} bytes each, {after} in all");
    assert!(each < BYTES_EACH_MAX, "{each} bytes each");

    // Somebody who does something is served as ever.
    let served = async {
        let mut client = Client::connect(&role.address).await?;
        client.sender("q").await?.send(message("served")).await?;
        let mut receiver = client.receiver("q", 1).await?;
        let delivery = receiver.recv::<Data>().await?;
        receiver.accept(&delivery).await?;
        Ok::<_, Broken>(id(&delivery))
    };
    assert_eq!(tokio::time::timeout(WITHIN, served).await??, "served");
    // And none of the others was closed meanwhile.
    for stream in &idle {
        let mut byte = [0];
        match stream.try_read(&mut byte) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            other => panic!("{other:?} from an idle connection"),
        }
    }
    Ok(())
}
