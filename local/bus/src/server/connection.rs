//! One connection's task: bytes in, bytes out, wake-ups and deadlines. All decisions are the
//! engine's.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::clock;
use super::engine::Engine;
use super::hub::Hub;
use crate::broker::{ConnectionId, Timestamp};
use crate::limits::{
    CLOSE_GRACE_MS, FIRST_READ_BUFFER_BYTES, READ_BUFFER_BYTES, WRITE_STALL_MS_MAX,
};

/// Serves one connection to its end.
pub(super) async fn serve(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    hub: Arc<Hub>,
    id: ConnectionId,
    shutdown: CancellationToken,
) {
    let woken = hub.register(id);
    let mut engine = Engine::new(Arc::clone(&hub), id, clock::now());
    // Who says little is given little.
    let mut room = FIRST_READ_BUFFER_BYTES;
    let mut input = BytesMut::with_capacity(room);
    // Since when the socket has not taken what waits for it.
    let mut waiting_since = None;
    let mut flushed = true;
    let mut armed = Timestamp::NEVER;
    let mut timer = pin!(sleep_until(Instant::now()));
    let mut durable = hub.durable();

    while !engine.is_finished() {
        let (position, failed) = {
            let durable = durable.borrow_and_update();
            (durable.position, durable.failed.is_some())
        };
        if failed {
            engine.abandon(position);
            let grace = Duration::from_millis(CLOSE_GRACE_MS.unsigned_abs());
            let said = tokio::time::timeout(grace, writer.write_all(engine.output()));
            if !matches!(said.await, Ok(Ok(()))) {
                tracing::debug!("a peer was not told that the journal cannot be written");
            }
            break;
        }
        let sendable = engine.sendable(position);
        let (pending, held) = (sendable > 0, sendable < engine.output().len());
        if !pending {
            waiting_since = None;
        } else if waiting_since.is_none() {
            waiting_since = Some(clock::now());
        }
        let stalled_at = waiting_since.map_or(Timestamp::NEVER, |at| at.plus(WRITE_STALL_MS_MAX));
        let deadline = engine.next_deadline().min(stalled_at);
        // The timer is left alone while it would only ring too early.
        if deadline < armed {
            let ms = deadline.since(clock::now()).unsigned_abs();
            timer.as_mut().reset(Instant::now() + Duration::from_millis(ms));
            armed = deadline;
        }
        let congested = held && hub.is_congested();
        let reads = engine.accepts_input() && !congested;
        if reads && input.capacity() - input.len() < room / 4 {
            input.reserve(room);
        }
        tokio::select! {
            biased;
            written = put(&mut writer, &engine.output()[..sendable]), if pending || !flushed => {
                match written {
                    Ok(n) if n > 0 => {
                        waiting_since = None;
                        flushed = false;
                        engine.sent(n);
                        match engine.resumes() {
                            true => engine.receive(&mut input, clock::now()),
                            false => engine.flushed(clock::now()),
                        }
                    }
                    Ok(_) if !pending => flushed = true,
                    _ => break,
                }
            }
            read = reader.read_buf(&mut input), if reads => {
                match read {
                    Ok(n) if n > 0 => {
                        if n > room / 2 {
                            room = READ_BUFFER_BYTES;
                        }
                        engine.receive(&mut input, clock::now());
                    }
                    _ => break,
                }
            }
            _ = durable.changed(), if held => {}
            () = woken.notified() => engine.deliver(clock::now()),
            () = timer.as_mut(), if armed != Timestamp::NEVER => {
                armed = Timestamp::NEVER;
                let now = clock::now();
                if stalled_at <= now {
                    tracing::debug!("a peer takes nothing any more");
                    break;
                }
                engine.tick(now);
            }
            () = shutdown.cancelled(), if !engine.is_closing() && !engine.is_draining() => {
                // The server also stops when there is no disk any more, which comes first.
                if hub.failure().is_none() {
                    engine.drain(clock::now());
                }
            }
        }
    } // Says goodbye where the transport has a way to.
    let grace = Duration::from_millis(CLOSE_GRACE_MS.unsigned_abs());
    if let Ok(Err(error)) = tokio::time::timeout(grace, writer.shutdown()).await {
        tracing::debug!(%error, "a connection was not shut down cleanly");
    }
}

/// Writes what there is, or sees to it that what was written goes out: encryption keeps a buffer of
/// its own.
async fn put(writer: &mut (impl AsyncWrite + Unpin), output: &[u8]) -> io::Result<usize> {
    if output.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    writer.write(output).await
}
