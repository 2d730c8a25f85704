//! Every bound of the service, in one place, with its unit and its reason.
//!
//! The numbers that Azure publishes are taken over as they are
//! (<https://learn.microsoft.com/azure/event-grid/quotas-limits> and
//! <https://learn.microsoft.com/azure/event-grid/delivery-and-retry>); the others protect this
//! process.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Largest request to publish, in bytes. Published limit.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Largest event, in bytes of JSON. Published limit.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Events of one request. Published limit.
pub const EVENTS_PER_REQUEST_MAX: usize = 5_000;

/// Longest name of a context attribute, in characters: what the CloudEvents specification asks
/// senders to keep to, many times over.
pub const ATTRIBUTE_NAME_CHARS_MAX: usize = 200;

/// Length of the name of a topic or a subscription, in characters. Published limits.
pub const NAME_CHARS: RangeInclusive<usize> = 3..=64;

/// Subscriptions of one topic. Published limit.
pub const SUBSCRIPTIONS_MAX: usize = 500;

/// Topics of one stand-in; Azure has a hundred per region and subscription.
pub const TOPICS_MAX: usize = 100;

/// Event types that one subscription may name; keeps matching cheap.
pub const INCLUDED_TYPES_MAX: usize = 100;

/// Longest endpoint, subject filter or event type, in bytes. Longer ones are mistakes.
pub const TEXT_BYTES_MAX: usize = 2_048;

/// Attempts to deliver an event. Published limits, the upper one being the default.
pub const DELIVERY_ATTEMPTS: RangeInclusive<u32> = 1..=30;

/// Time to live of an event, in minutes. Published limits, the upper one being the default.
pub const TIME_TO_LIVE_MINUTES: RangeInclusive<u32> = 1..=1_440;

/// How long a subscriber may take to answer. Published limit.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The least that is left of [`ANSWER_WITHIN`] when time is scaled: a busy machine needs a moment
/// for any answer.
pub const ANSWER_WITHIN_MIN: Duration = Duration::from_secs(2);

/// Bytes of a subscriber's answer that are read, so that its connection can be used again.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Deliveries of one subscription that are under way at once. Keeps a slow subscriber from being
/// overwhelmed, and from using up our sockets.
pub const IN_FLIGHT_MAX: usize = 32;

/// Dead letters of one subscription that are being written at once; they share a file anyway.
pub const BURIALS_MAX: usize = 32;

/// Deliveries that wait, over all subscriptions: what a memory of half a gigabyte holds when
/// events are of an ordinary size. Publishing is refused beyond it.
pub const WAITING_MAX: usize = 200_000;

/// Bytes of the events that wait, each counted once per subscription. Publishing is refused
/// beyond it.
pub const WAITING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Failures in a row after which an endpoint counts as unhealthy. Published.
pub const UNHEALTHY_AFTER: u32 = 10;

/// The first pause of an unhealthy endpoint, and the longest; it doubles. Azure says "up to
/// several hours"; at a desk ten minutes are enough of that.
pub const UNHEALTHY_PAUSE_MIN: Duration = Duration::from_secs(10);
/// See [`UNHEALTHY_PAUSE_MIN`].
pub const UNHEALTHY_PAUSE_MAX: Duration = Duration::from_secs(600);

/// The first pause before a handshake is tried again, and the longest; it doubles. Azure would
/// refuse the subscription instead; here the subscriber may be started later.
pub const HANDSHAKE_PAUSE_MIN: Duration = Duration::from_secs(1);
/// See [`HANDSHAKE_PAUSE_MIN`].
pub const HANDSHAKE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Pause before a dead letter that could not be written is tried again.
pub const DEAD_LETTER_PAUSE: Duration = Duration::from_secs(10);

/// How long that goes on before the event is dropped. Published.
pub const DEAD_LETTER_WITHIN: Duration = Duration::from_secs(4 * 60 * 60);

/// Largest file of dead letters, in bytes: nobody should find a full disk instead.
pub const DEAD_LETTER_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How many times faster than in Azure delays may pass.
pub const TIME_SCALE: RangeInclusive<u32> = 1..=100_000;

/// Open connections; further ones wait in the listen backlog.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Time to receive a request head, and time without any request, after which a connection is
/// closed.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(120);

/// Time to receive a request body after its head.
pub const BODY_READ: Duration = Duration::from_secs(15);

/// Time that shutdown waits for requests and deliveries under way.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Longest pause of the delivery loop: bounds what a clock that is set forward can delay.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Advanced filters of one subscription. Published limit.
pub const ADVANCED_FILTERS_MAX: usize = 25;

/// Values of all advanced filters of one subscription. Published limit.
pub const FILTER_VALUES_MAX: usize = 25;

/// Longest text in an advanced filter, in characters. Published limit.
pub const FILTER_TEXT_CHARS_MAX: usize = 512;
