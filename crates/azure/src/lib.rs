//! The only code that speaks to Azure services: Cosmos DB, Service Bus, Storage queues, Event Grid,
//! credentials.
//!
//! This crate knows endpoints, wire formats, retries and deadlines. It has never heard of an
//! order: documents and messages are whatever the caller serialises.
//!
//! * [`connection`]: endpoints and credentials, from the settings the Functions host uses for its
//!   own connections.
//! * [`cosmos`]: a document store (Azure Cosmos DB for NoSQL): read, create, replace, upsert,
//!   delete, conditional patch, transactional batch, query.
//! * [`bus`]: a message broker (Azure Service Bus): send, receive under a peek lock, settle,
//!   schedule, peek, settle by lock token.
//! * [`grid`]: a topic that pushes events to webhooks (Azure Event Grid): publish.
//! * [`queue`]: a Storage queue, as an operator needs it: peek, take, delete, count.
//! * [`token`]: Entra tokens for services that others speak to.
//! * [`retry`]: back-off with full jitter, bounded in attempts and in time.
//!
//! Two rules hold everywhere. Every wait has a deadline: a service that is down costs the caller
//! a named number of seconds, never a hang. No error and no `Debug` output carries a secret.

pub mod bus;
pub mod connection;
pub mod cosmos;
mod credential;
pub mod grid;
pub mod queue;
pub mod retry;
pub mod token;
