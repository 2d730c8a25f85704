//! One connection as a state machine: bytes in, bytes out, no socket and no clock.
//!
//! [`Engine::receive`] takes everything that has arrived, acts on it and leaves the answers in one
//! output buffer. Layers: this file has protocol headers, SASL and the connection performatives;
//! [`session`] windows and dispatch; [`attach`] what a link is; [`ingress`] messages to the broker;
//! [`egress`] messages from it; [`request`] the `$cbs` and `$management` nodes.

mod attach;
mod context;
mod egress;
mod held;
mod holds;
mod ingress;
mod link;
mod management;
mod request;
mod rules;
mod session;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use journal::Position;

use context::{Context, Fault};
use held::Held;
use session::Session;

use super::hub::Hub;
use crate::amqp::frame::{AMQP_HEADER, Frame, FrameKind, SASL_HEADER, put_heartbeat, take_frame};
use crate::amqp::performative::{
    Begin, Open, Performative, put_begin, put_close, put_end, put_open,
};
use crate::amqp::sasl::{SaslOutcome, SaslRequest, put_challenge, put_mechanisms, put_outcome};
use crate::amqp::{AmqpError, condition};
use crate::broker::{ConnectionId, ReceiverId, Timestamp};
use crate::limits::{
    CHANNEL_MAX, CLOSE_GRACE_MS, DRAIN_MS, FRAME_BYTES_MIN, FRAME_OUT_BYTES_MAX, HANDSHAKE_MS_MAX,
    IDLE_TIME_OUT_MS, OUTPUT_HIGH_WATER_BYTES, PEER_IDLE_TIME_OUT_MIN_MS, SESSION_WINDOW_FRAMES,
    SESSIONS_PER_CONNECTION_MAX,
};

/// What SASL offers. The .NET client insists on MSSBCBS; the others take ANONYMOUS. All but PLAIN
/// leave it to `$cbs` to find out who the client is.
const MECHANISMS: [&str; 4] = ["MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"];

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was said; SASL may be skipped.
    Header,
    /// Mechanisms are offered; `challenged` when PLAIN was chosen without its credentials.
    Sasl {
        challenged: bool,
    },
    /// Authenticated: the AMQP header comes next.
    HeaderAfterSasl,
    /// Headers are exchanged: Open comes next.
    Opening,
    Open,
    /// We have sent Close with an error and wait for the peer's.
    Closing {
        since: Timestamp,
    },
    Closed,
}

/// One connection.
pub(super) struct Engine {
    stage: Stage,
    context: Context,
    sessions: HashMap<u16, Session>,
    started_at: Timestamp,
    last_heard: Timestamp,
    last_sent: Timestamp,
    /// Interval at which the peer wants to hear something, in milliseconds.
    heartbeat_ms: Option<i64>,
    held: Held,
    /// Input was left for when there is room for answers.
    paused: bool,
    /// Receivers that were assigned something, in sessions that still have to write what came
    /// before: what is not fetched counts against what a receiver may be assigned.
    postponed: Vec<ReceiverId>,
}

/// However a connection ends, a panic included, what it held in the broker is given back.
impl Drop for Engine {
    fn drop(&mut self) {
        for (_, mut session) in self.sessions.drain() {
            session.end(&mut self.context);
        }
        self.context.hub.deregister(self.context.id);
    }
}

impl Engine {
    pub(super) fn new(hub: Arc<Hub>, id: ConnectionId, now: Timestamp) -> Engine {
        Engine {
            stage: Stage::Header,
            context: Context::new(hub, id, now),
            sessions: HashMap::new(),
            started_at: now,
            last_heard: now,
            last_sent: now,
            heartbeat_ms: None,
            held: Held::default(),
            paused: false,
            postponed: Vec::new(),
        }
    }

    /// What waits to be written.
    pub(super) fn output(&mut self) -> &mut BytesMut {
        &mut self.context.out
    }

    /// How much of what waits may be written: answers are held back until what they say is
    /// durable.
    pub(super) fn sendable(&mut self, durable: Position) -> usize {
        if self.context.slow_until > self.context.now {
            return 0;
        }
        let position = self.context.told_at.get();
        self.held.sendable(self.context.out.len(), position, durable)
    }

    /// So much of it was written.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.context.out.advance(bytes);
        self.held.sent(bytes);
    }

    /// Whether the connection is over and everything was written.
    pub(super) fn is_finished(&self) -> bool {
        self.stage == Stage::Closed && self.context.out.is_empty()
    }

    /// Whether Close was sent or the connection is over.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing { .. } | Stage::Closed)
    }

    /// Whether to read more. A peer that does not take answers is not read from.
    pub(super) fn accepts_input(&self) -> bool {
        self.stage != Stage::Closed && self.context.out.len() < OUTPUT_HIGH_WATER_BYTES
    }

    /// Whether what is in the input buffer can go on to be read.
    pub(super) fn resumes(&self) -> bool {
        self.paused && self.accepts_input()
    }

    /// Acts on everything complete in `input`, as long as there is room for answers.
    pub(super) fn receive(&mut self, input: &mut BytesMut, now: Timestamp) {
        self.context.now = now;
        self.last_heard = now;
        self.paused = false;
        loop {
            if self.context.out.len() >= OUTPUT_HIGH_WATER_BYTES {
                self.paused = true;
                break;
            }
            let progressed = match self.stage {
                Stage::Header | Stage::HeaderAfterSasl => self.header(input),
                Stage::Closed => {
                    input.clear();
                    break;
                }
                _ => match take_frame(input, self.context.hub.limits.frame_bytes) {
                    Ok(Some(frame)) => {
                        self.frame(&frame);
                        true
                    }
                    Ok(None) => false,
                    Err(error) => {
                        input.clear();
                        self.fail(&AmqpError::new(condition::FRAMING_ERROR, error.to_string()));
                        false
                    }
                },
            };
            if !progressed {
                break;
            }
        }
        if std::mem::take(&mut self.context.claim_failed) {
            for session in self.sessions.values_mut() {
                session.detach_unauthorized(&mut self.context);
            }
        }
        self.deliver(now);
        self.end_drain();
    }

    /// Sends what the broker has assigned to this connection's receivers.
    pub(super) fn deliver(&mut self, now: Timestamp) {
        self.context.now = now;
        if self.stage == Stage::Open {
            loop {
                self.fetch();
                self.context.granted = false;
                self.pump();
                // What is granted may be assigned at once, and nobody else tells of it.
                if !self.context.granted && !self.fetches_postponed() {
                    break;
                }
            }
        }
        self.context.flush_accepted();
        if !self.context.out.is_empty() {
            self.last_sent = now;
        }
    }

    /// Whether a session has caught up with what was postponed for it.
    fn fetches_postponed(&self) -> bool {
        let caught_up = |receiver| {
            let place = self.context.receivers.get(receiver);
            let session = place.and_then(|(channel, _)| self.sessions.get(channel));
            session.is_some_and(|session| !session.is_behind())
        };
        self.postponed.iter().any(caught_up)
    }

    fn fetch(&mut self) {
        let behind = self.sessions.iter().filter(|(_, session)| session.is_behind());
        let behind: Vec<u16> = behind.map(|(channel, _)| *channel).collect();
        let mut called = std::mem::take(&mut self.postponed);
        called.extend(self.context.hub.ready(self.context.id));
        for receiver in called {
            let Some((channel, handle)) = self.context.receivers.get(&receiver).copied() else {
                continue;
            };
            if let Some(session) = self.sessions.get_mut(&channel) {
                session.on_event(&mut self.context, handle, receiver);
                match behind.contains(&channel) {
                    true => self.postponed.push(receiver),
                    false => session.fetch(&mut self.context, handle),
                }
            }
        }
    }

    /// Some output was written; there may be room for deliveries that had to wait.
    pub(super) fn flushed(&mut self, now: Timestamp) {
        if self.context.starved && self.context.out.len() < OUTPUT_HIGH_WATER_BYTES / 2 {
            self.deliver(now);
        }
    }

    fn pump(&mut self) {
        self.context.starved = false;
        for session in self.sessions.values_mut() {
            session.pump(&mut self.context);
        }
    }

    /// When [`tick`](Engine::tick) next has something to do.
    pub(super) fn next_deadline(&self) -> Timestamp {
        let slow = match self.context.slow_until > self.context.now {
            true => self.context.slow_until,
            false => Timestamp::NEVER,
        };
        let drained = self.context.drain_until.unwrap_or(Timestamp::NEVER);
        self.deadline().min(slow).min(drained)
    }

    fn deadline(&self) -> Timestamp {
        match self.stage {
            Stage::Closed => Timestamp::NEVER,
            Stage::Closing { since } => since.plus(CLOSE_GRACE_MS),
            Stage::Open => {
                let heartbeat =
                    self.heartbeat_ms.map_or(Timestamp::NEVER, |ms| self.last_sent.plus(ms));
                let idle = self.last_heard.plus(i64::from(IDLE_TIME_OUT_MS) * 2);
                let waiting = self.context.session_waits.first();
                let waiting = waiting.map_or(Timestamp::NEVER, |(at, ..)| *at);
                heartbeat.min(idle).min(waiting).min(self.context.grants.next_expiry())
            }
            _ => self.started_at.plus(HANDSHAKE_MS_MAX),
        }
    }

    /// Does what time alone demands: heartbeats, time-outs, the end of tokens.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.context.now = now;
        self.end_drain();
        match self.stage {
            Stage::Closed => {}
            Stage::Closing { since } => {
                if since.plus(CLOSE_GRACE_MS) <= now {
                    self.stage = Stage::Closed;
                    self.context.out.clear();
                }
            }
            Stage::Open => {
                if self.last_heard.plus(i64::from(IDLE_TIME_OUT_MS) * 2) <= now {
                    let text = "The connection was inactive for longer than the idle time-out.";
                    self.fail(&AmqpError::new(condition::CONNECTION_FORCED, text));
                    return;
                }
                if self.context.grants.expire(now) {
                    for session in self.sessions.values_mut() {
                        session.detach_unauthorized(&mut self.context);
                    }
                }
                while let Some((_, channel, handle)) =
                    self.context.session_waits.first().copied().filter(|(at, ..)| *at <= now)
                {
                    match self.sessions.get_mut(&channel) {
                        Some(session) => session.stop_waiting(&mut self.context, handle),
                        None => drop(self.context.session_waits.pop_first()),
                    }
                }
                if self.heartbeat_ms.is_some_and(|ms| self.last_sent.plus(ms) <= now) {
                    put_heartbeat(&mut self.context.out);
                    self.last_sent = now;
                }
            }
            _ => {
                if self.started_at.plus(HANDSHAKE_MS_MAX) <= now {
                    self.stage = Stage::Closed;
                    self.context.out.clear();
                }
            }
        }
    }

    /// The server is about to stop: hands out nothing more and takes nothing more, but lets the
    /// client settle what it has, for a while.
    pub(super) fn drain(&mut self, now: Timestamp) {
        self.context.now = now;
        self.context.draining = true;
        self.context.drain_until = Some(now.plus(DRAIN_MS));
        for session in self.sessions.values_mut() {
            session.stop_granting(&mut self.context);
        }
        self.end_drain();
    }

    /// Whether the connection has been told to come to an end.
    pub(super) fn is_draining(&self) -> bool {
        self.context.draining
    }

    fn end_drain(&mut self) {
        let now = self.context.now;
        let Some(until) = self.context.drain_until else { return };
        if until <= now || self.sessions.values().all(|session| session.unsettled.is_empty()) {
            self.context.drain_until = None;
            self.shut_down(now);
        }
    }

    /// The server stops: says so.
    pub(super) fn shut_down(&mut self, now: Timestamp) {
        self.context.now = now;
        if self.stage == Stage::Open {
            self.fail(&AmqpError::new(
                condition::CONNECTION_FORCED,
                "The server is shutting down.",
            ));
        } else {
            self.stage = Stage::Closed;
            self.context.out.clear();
        }
    }

    /// The journal cannot be written: nobody can say whether what was asked for was done, so what
    /// is not durable is not told, and the connection ends.
    pub(super) fn abandon(&mut self, durable: Position) {
        let sendable = self.sendable(durable);
        self.context.out.truncate(sendable);
        // While a fault holds everything back, a frame may be half written.
        if self.stage == Stage::Open && self.context.slow_until <= self.context.now {
            let text = "The server cannot write its journal.";
            let error = AmqpError::new(condition::INTERNAL_ERROR, text);
            put_close(&mut self.context.out, Some(&error));
        }
        self.stage = Stage::Closed;
    }

    /// Takes one protocol header off the input and answers it.
    fn header(&mut self, input: &mut BytesMut) -> bool {
        let Some(&header) = input.first_chunk::<8>() else { return false };
        input.advance(8);
        match (header, self.stage) {
            (SASL_HEADER, Stage::Header) => {
                self.context.out.extend_from_slice(&SASL_HEADER);
                put_mechanisms(&mut self.context.out, &MECHANISMS);
                self.stage = Stage::Sasl { challenged: false };
                true
            }
            (AMQP_HEADER, _) => {
                self.context.out.extend_from_slice(&AMQP_HEADER);
                self.stage = Stage::Opening;
                true
            }
            _ => {
                // Part 2, section 2.2: answer with what is supported and hang up.
                let supported = if self.stage == Stage::Header { SASL_HEADER } else { AMQP_HEADER };
                self.context.out.extend_from_slice(&supported);
                self.stage = Stage::Closed;
                input.clear();
                false
            }
        }
    }

    fn frame(&mut self, frame: &Frame) {
        match (self.stage, frame.kind) {
            (Stage::Sasl { challenged }, FrameKind::Sasl) => self.sasl(frame, challenged),
            (Stage::Sasl { .. }, FrameKind::Amqp) | (_, FrameKind::Sasl) => {
                self.fail(&AmqpError::new(condition::FRAMING_ERROR, "A frame of the other layer."));
            }
            (_, FrameKind::Amqp) if frame.body.is_empty() => {}
            (_, FrameKind::Amqp) => match Performative::decode(&frame.body) {
                Ok(performative) => self.performative(frame.channel, performative),
                Err(error) => {
                    self.fail(&AmqpError::new(condition::DECODE_ERROR, error.to_string()));
                }
            },
        }
    }

    fn sasl(&mut self, frame: &Frame, challenged: bool) {
        let request = match SaslRequest::decode(&frame.body) {
            Ok(request) => request,
            Err(error) => {
                return self.fail(&AmqpError::new(condition::DECODE_ERROR, error.to_string()));
            }
        };
        let outcome = match request {
            SaslRequest::Init { mechanism, initial_response } if mechanism == "PLAIN" => {
                let Some(response) = initial_response else {
                    put_challenge(&mut self.context.out);
                    self.stage = Stage::Sasl { challenged: true };
                    return;
                };
                self.plain(&response)
            }
            SaslRequest::Init { mechanism, .. } if MECHANISMS.contains(&mechanism.as_str()) => {
                SaslOutcome::Ok
            }
            SaslRequest::Response(response) if challenged => self.plain(&response),
            SaslRequest::Init { .. } | SaslRequest::Response(_) => SaslOutcome::Auth,
        };
        put_outcome(&mut self.context.out, outcome);
        self.stage = match outcome {
            SaslOutcome::Ok => Stage::HeaderAfterSasl,
            SaslOutcome::Auth => Stage::Closed,
        };
    }

    /// PLAIN with key name and key grants what the key allows, on the whole namespace (RFC 4616: `authzid NUL name NUL
    /// password`).
    fn plain(&mut self, response: &[u8]) -> SaslOutcome {
        let mut parts = response.splitn(3, |byte| *byte == 0);
        let (_, name, key) = (parts.next(), parts.next(), parts.next());
        match (name, key) {
            (Some(name), Some(key)) => match self.context.hub.keys.rights_of(name, key) {
                Some(rights) => {
                    self.context.grants.add("", rights, Timestamp::NEVER);
                    SaslOutcome::Ok
                }
                None => SaslOutcome::Auth,
            },
            _ => SaslOutcome::Auth,
        }
    }

    fn performative(&mut self, channel: u16, performative: Performative) {
        match (self.stage, performative) {
            (Stage::Opening, Performative::Open(open)) => self.open(&open),
            (Stage::Opening, _) | (_, Performative::Open(_)) => {
                self.fail(&AmqpError::new(condition::ILLEGAL_STATE, "Open comes first, and once."));
            }
            (_, Performative::Close(_)) => {
                if self.stage == Stage::Open {
                    self.context.flush_accepted();
                    put_close(&mut self.context.out, None);
                }
                self.stage = Stage::Closed;
            }
            // After our Close only the peer's is of interest.
            (Stage::Closing { .. }, _) => {}
            (_, Performative::Begin(begin)) => self.begin(channel, &begin),
            (_, Performative::End(_)) => {
                if let Some(mut session) = self.sessions.remove(&channel) {
                    session.end(&mut self.context);
                    self.context.flush_accepted();
                    if !session.is_ended() {
                        put_end(&mut self.context.out, channel, None);
                    }
                }
            }
            (_, performative) => {
                let Some(session) = self.sessions.get_mut(&channel) else {
                    let text = format!("Channel {channel} has no session.");
                    return self.fail(&AmqpError::new(condition::NOT_ALLOWED, text));
                };
                let handled = session.handle(&mut self.context, performative);
                if self.context.dropped {
                    self.stage = Stage::Closed;
                    self.context.out.clear();
                    return;
                }
                match handled {
                    Ok(()) => {}
                    Err(Fault::Session(error)) => {
                        session.end(&mut self.context);
                        session.set_ended();
                        self.context.flush_accepted();
                        put_end(&mut self.context.out, channel, Some(&error));
                    }
                    Err(Fault::Connection(error)) => self.fail(&error),
                }
            }
        }
    }

    fn open(&mut self, open: &Open) {
        let frame_bytes = open.max_frame_size.unwrap_or(u32::MAX);
        self.context.frame_bytes = frame_bytes.clamp(FRAME_BYTES_MIN, FRAME_OUT_BYTES_MAX) as usize;
        // Half of what the peer demands, so that one late packet does no harm.
        self.heartbeat_ms = open
            .idle_time_out
            .filter(|ms| *ms > 0)
            .map(|ms| i64::from(ms.max(PEER_IDLE_TIME_OUT_MIN_MS)) / 2);
        put_open(
            &mut self.context.out,
            &Open {
                container_id: format!("bus-{}", self.context.id.0),
                max_frame_size: Some(self.context.hub.limits.frame_bytes),
                channel_max: Some(CHANNEL_MAX),
                idle_time_out: Some(IDLE_TIME_OUT_MS),
            },
        );
        self.last_sent = self.context.now;
        self.stage = Stage::Open;
    }

    fn begin(&mut self, channel: u16, begin: &Begin) {
        if channel > CHANNEL_MAX || self.sessions.len() >= SESSIONS_PER_CONNECTION_MAX {
            let text = format!("Channels go from 0 to {CHANNEL_MAX}.");
            return self.fail(&AmqpError::new(condition::RESOURCE_LIMIT, text));
        }
        if self.sessions.contains_key(&channel) {
            let text = format!("Channel {channel} has a session already.");
            return self.fail(&AmqpError::new(condition::ILLEGAL_STATE, text));
        }
        self.sessions.insert(channel, Session::new(channel, begin));
        put_begin(
            &mut self.context.out,
            channel,
            &Begin {
                remote_channel: Some(channel),
                next_outgoing_id: 0,
                incoming_window: SESSION_WINDOW_FRAMES,
                outgoing_window: SESSION_WINDOW_FRAMES,
                handle_max: u32::try_from(self.context.hub.limits.links_per_session - 1).ok(),
            },
        );
    }

    /// Ends the connection with an error.
    fn fail(&mut self, error: &AmqpError) {
        tracing::debug!(condition = %error.condition, "closing: {}", error.description);
        for (_, mut session) in self.sessions.drain() {
            session.end(&mut self.context);
        }
        self.context.flush_accepted();
        match self.stage {
            Stage::Open => {
                put_close(&mut self.context.out, Some(error));
                self.stage = Stage::Closing { since: self.context.now };
            }
            Stage::Opening => {
                // A Close may only follow an Open.
                let open = Open {
                    container_id: format!("bus-{}", self.context.id.0),
                    max_frame_size: Some(self.context.hub.limits.frame_bytes),
                    channel_max: Some(CHANNEL_MAX),
                    idle_time_out: None,
                };
                put_open(&mut self.context.out, &open);
                put_close(&mut self.context.out, Some(error));
                self.stage = Stage::Closed;
            }
            Stage::Closing { .. } => {}
            _ => self.stage = Stage::Closed,
        }
    }
}
