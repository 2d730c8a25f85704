//! Every bound of the broker, in one place, with its unit in the name and the reason beside it.
//!
//! What a client may choose (credit, windows, batch sizes) is capped here as well: a stand-in that
//! falls over under a careless client would be no use for testing careful ones.

/// Bytes of one group of changes above which it is written to the journal in parts: far below the
/// largest record a journal takes, with room for the largest message.
pub(crate) const GROUP_BYTES: usize = 1_048_576;

/// Bytes of messages kept in memory beside a journal: enough for what is under way in any load, and
/// a small part of a backlog.
pub(crate) const MESSAGE_MEMORY_BYTES_MAX: u64 = 64 * 1_048_576;

/// Bytes that wait for the disk above which connections are not read from.
pub(crate) const JOURNAL_WAITING_BYTES_MAX: usize = 64 * 1_048_576;

/// Bytes of journal after which a snapshot replaces it, unless the messages themselves are more:
/// then as many, so that a message is rewritten once for every one that is written.
pub(crate) const SNAPSHOT_AFTER_BYTES: u64 = 128 * 1_048_576;

/// Messages captured for a snapshot in one go, while nobody else can do anything.
pub(crate) const CAPTURE_ITEMS: usize = 512;

/// Bytes of messages captured in one go. They are one record of the snapshot, which is lost as a
/// whole if a byte of it is damaged.
pub(crate) const CAPTURE_BYTES: u64 = 65_536;

/// Nesting of AMQP values. Real messages stay below five; the cap keeps recursion off the stack.
pub(crate) const VALUE_DEPTH_MAX: u32 = 32;

/// Elements in an array whose elements occupy no bytes (null, true, empty list): nothing else
/// bounds such an array, so four bytes on the wire could ask for four billion values.
pub(crate) const ZERO_WIDTH_ARRAY_ITEMS_MAX: u32 = 32;

/// Largest frame accepted and announced in Open, the value Service Bus announces.
pub(crate) const FRAME_BYTES_MAX: u32 = 65_536;

/// Smallest `max-frame-size` AMQP 1.0 allows a peer to announce (part 2, section 2.7.1).
pub const FRAME_BYTES_MIN: u32 = 512;

/// Largest frame we produce even for a peer that would take more, to keep the output buffer flat.
pub(crate) const FRAME_OUT_BYTES_MAX: u32 = 65_536;

/// Largest message, the default of the Premium tier. The official emulator and the Standard tier
/// take a quarter of it; a server can be told to.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 1_048_576;

/// Most that a server can be told to take as its largest message: half of what a record of the
/// journal holds, so that a message and the changes beside it are one.
pub const MESSAGE_BYTES_LIMIT: u64 = 8 * 1_048_576;

/// Messages in one batch transfer; with at least ten bytes each the size limit is hit far earlier
/// for anything but a hostile sender.
pub(crate) const BATCH_MESSAGES_MAX: usize = 5_000;

/// Highest channel number announced; the .NET client opens one session per link.
pub(crate) const CHANNEL_MAX: u16 = 4_999;

/// Sessions per connection, one per announced channel.
pub(crate) const SESSIONS_PER_CONNECTION_MAX: usize = 5_000;

/// Links per session; the clients keep a handful, the service allows a thousand receivers.
pub(crate) const LINKS_PER_SESSION_MAX: usize = 1_000;

/// Connections served at once, idle ones included; an idle one costs some kilobytes. Service Bus
/// Standard allows 1,000.
pub(crate) const CONNECTIONS_MAX: usize = 12_000;

/// Descriptors beside those of connections: listeners, segments of the journal, the runtime.
pub(crate) const OTHER_DESCRIPTORS: u64 = 256;

/// Transfer frames a client may have under way to us per session before it needs a flow.
pub(crate) const SESSION_WINDOW_FRAMES: u32 = 5_000;

/// Messages a sender link may have under way; topped up at half.
pub(crate) const SENDER_CREDIT_MESSAGES: u32 = 1_000;

/// Requests a `$cbs` or `$management` link may have under way; topped up at half.
pub(crate) const REQUEST_CREDIT_MESSAGES: u32 = 100;

/// Messages one receiver link may have locked but not yet written to its socket.
pub(crate) const RECEIVER_DEMAND_MESSAGES_MAX: u32 = 500;

/// Bytes of messages one receiver may be assigned and not have fetched; one message may go beyond.
pub(crate) const RECEIVER_DEMAND_BYTES_MAX: u64 = 1_048_576;

/// The same for all receivers of a connection together: beyond it each has one message at a time.
/// So what a peer that does not read makes the broker hold does not grow with its links.
pub(crate) const CONNECTION_DEMAND_BYTES_MAX: u64 = 4 * 1_048_576;

/// Unsettled deliveries remembered per session; beyond it expired ones are forgotten, and while
/// that does not help nothing more is delivered.
pub(crate) const UNSETTLED_PER_SESSION_MAX: usize = 10_000;

/// Replies of `$cbs` and `$management` waiting for link credit.
pub(crate) const REPLIES_WAITING_MAX: usize = 100;

/// Bytes of replies of one connection that wait for link credit or the session window: several of
/// the largest, see [`PEEK_BYTES_MAX`].
pub(crate) const REPLIES_WAITING_BYTES_MAX: usize = 4 * 1_048_576;

/// Bytes of deliveries of one connection that have not arrived in full, unless a single message may
/// be larger: many large messages on links of their own, and no more however many links there are.
pub(crate) const UNFINISHED_BYTES_MAX: u64 = 16 * 1_048_576;

/// Bytes waiting for the socket above which a connection stops reading and delivering.
pub(crate) const OUTPUT_HIGH_WATER_BYTES: usize = 1_048_576;

/// Bytes read from a socket at once: a few frames, so that one write answers many of them.
pub(crate) const READ_BUFFER_BYTES: usize = 65_536;

/// The same for a connection that has not sent as much at once yet: enough for the frames that open
/// one, and little for the thousands that do no more.
pub(crate) const FIRST_READ_BUFFER_BYTES: usize = 2_048;

/// Silence after which a peer is dropped is twice this (AMQP 1.0 part 2, section 2.4.5).
pub(crate) const IDLE_TIME_OUT_MS: u32 = 240_000;

/// Shortest idle time-out of a peer that is honoured; a smaller one would be a heartbeat flood.
pub(crate) const PEER_IDLE_TIME_OUT_MIN_MS: u32 = 1_000;

/// From accept to Open; a client that does not speak must not hold a place.
pub(crate) const HANDSHAKE_MS_MAX: i64 = 30_000;

/// A socket that takes nothing for this long is dropped with everything queued for it.
pub(crate) const WRITE_STALL_MS_MAX: i64 = 60_000;

/// How long clients may settle what they have once the server is told to stop.
pub(crate) const DRAIN_MS: i64 = 1_500;

/// Rules of faults in force at once; a test needs a handful.
pub(crate) const FAULT_RULES_MAX: usize = 100;

/// Longest delay of a fault: clients give up after a minute.
pub(crate) const FAULT_DELAY_MS_MAX: u32 = 120_000;

/// Bytes of a request that sets faults.
pub(crate) const FAULTS_BODY_BYTES_MAX: usize = 65_536;

/// Bytes of messages without a journal, where memory is all there is.
pub(crate) const EPHEMERAL_MEMORY_BYTES_MAX: u64 = 2 * 1_073_741_824;

/// From our Close to the end of the socket, for the peer's Close to arrive.
pub(crate) const CLOSE_GRACE_MS: i64 = 2_000;

/// Tokens kept per connection; one per entity path, the oldest expiry makes room.
pub(crate) const TOKENS_PER_CONNECTION_MAX: usize = 1_000;

/// Characters of a put-token request's token; SAS tokens have about 200, JWTs some 2,000.
pub(crate) const TOKEN_CHARS_MAX: usize = 16_384;

/// Messages answered to one peek, as in the service's own clients.
pub(crate) const PEEK_MESSAGES_MAX: usize = 5_000;

/// Bytes answered to one peek, so that the reply stays a message a client accepts.
pub(crate) const PEEK_BYTES_MAX: usize = 1_048_576;

/// Sequence numbers or lock tokens in one management request.
pub(crate) const MANAGEMENT_ITEMS_MAX: usize = 5_000;

/// Messages deleted by one batch-delete request, as documented for the service.
pub(crate) const BATCH_DELETE_MESSAGES_MAX: usize = 4_000;

/// Rules of one subscription added over the wire (the service allows 2,000 per topic).
pub(crate) const RULES_PER_SUBSCRIPTION_MAX: usize = 2_000;

/// Characters of a SQL filter or action.
pub(crate) const FILTER_CHARS_MAX: usize = 1_024;

/// Nesting of a SQL filter; with 1,024 characters only parentheses could go deeper.
pub(crate) const FILTER_DEPTH_MAX: u32 = 64;

/// Characters of message-id, session-id and partition-key.
pub(crate) const ID_CHARS_MAX: usize = 128;

/// Characters of a dead-letter reason or description; longer ones are cut.
pub(crate) const DEAD_LETTER_TEXT_CHARS_MAX: usize = 4_096;

/// Bytes of header, annotations and properties together.
pub(crate) const PROPERTIES_BYTES_MAX: usize = 65_536;

/// Shortest lock. The service starts at 5 s; tests of lock expiry should not have to wait so long.
pub(crate) const LOCK_DURATION_MIN_MS: i64 = 1_000;

/// Longest lock, as in the service.
pub(crate) const LOCK_DURATION_MAX_MS: i64 = 300_000;

/// Longest duplicate detection window, as in the service.
pub(crate) const DUPLICATE_WINDOW_MAX_MS: i64 = 7 * 24 * 3_600_000;

/// Largest delivery count limit, as in the service.
pub(crate) const DELIVERY_COUNT_MAX: u32 = 2_000;

/// Characters of an entity path.
pub(crate) const ENTITY_NAME_CHARS_MAX: usize = 260;

/// Bytes of a link's address: host and path, escaped, with room. Errors repeat it.
pub(crate) const ADDRESS_BYTES_MAX: usize = 2_048;

/// Bytes of a link's name: those of the SDKs have an address and some identifiers.
pub(crate) const LINK_NAME_BYTES_MAX: usize = 2_048;

/// Shortest idle time after which an entity is deleted. The service starts at 5 min; tests of it
/// should not have to wait so long.
pub(crate) const AUTO_DELETE_ON_IDLE_MIN_MS: i64 = 1_000;

/// Shared access rules of a namespace or an entity, as in the service.
pub(crate) const AUTHORIZATION_RULES_MAX: usize = 12;

/// Entities a message may pass by forwarding before it is given up, as in the service.
pub(crate) const FORWARD_HOPS_MAX: u32 = 4;

/// Bytes of a session's state, the largest message of the Standard tier.
pub(crate) const SESSION_STATE_BYTES_MAX: usize = 262_144;

/// Queues and topics of a namespace, as in the service.
pub(crate) const ENTITIES_MAX: usize = 10_000;

/// Subscriptions of a topic, as in the service.
pub(crate) const SUBSCRIPTIONS_PER_TOPIC_MAX: usize = 2_000;

/// How long an attach that asks for any session waits for one, unless it says otherwise.
pub(crate) const SESSION_WAIT_MS: i64 = 60_000;

/// Longest such wait that is granted.
pub(crate) const SESSION_WAIT_MS_MAX: i64 = 600_000;

/// Bytes of a request to the administration API; the largest description is a tenth of it.
pub(crate) const ADMIN_BODY_BYTES_MAX: usize = 262_144;

/// Entries on one page of the administration API, as in the service.
pub(crate) const ADMIN_PAGE_ENTRIES_MAX: usize = 100;

/// An XML document: descriptions have six levels and some fifty elements, a filter's properties add
/// more.
pub(crate) const XML_BOUNDS: xml::Bounds = xml::Bounds { depth: 16, elements: 5_000 };
