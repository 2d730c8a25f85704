//! The whole account as records, from which a start rebuilds it without its history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Store;
use super::commit::Commit;
use super::message::Message;
use super::queue::{AccessPolicy, Metadata, Queue};

/// What a log holds: a snapshot, in this order, and the commits since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// What belongs to no queue.
    Account {
        /// Sequence of the latest commit.
        sequence: u64,
        /// Number of the next message.
        next_message: u64,
        /// Settings that were changed, each as the text of an XML element, by name.
        properties: BTreeMap<String, String>,
        /// Names of deleted queues and when they can be used again, epoch milliseconds.
        deleted: BTreeMap<String, u64>,
    },
    /// A queue, without its messages.
    Queue {
        /// Its name.
        name: String,
        /// What its owner says about it.
        metadata: Metadata,
        /// Its stored access policies.
        policies: Vec<AccessPolicy>,
    },
    /// A message.
    Message {
        /// The queue it is in.
        queue: String,
        /// The message.
        message: Message,
    },
    /// A change.
    Commit(Commit),
}

impl Store {
    /// The account as it is, as records. Texts are shared, not copied.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::Account {
            sequence: self.sequence,
            next_message: self.next_message,
            properties: self.properties.clone(),
            deleted: self.deleted.clone(),
        }];
        for (name, queue) in &self.queues {
            records.push(Record::Queue {
                name: name.clone(),
                metadata: queue.metadata().clone(),
                policies: queue.policies().to_vec(),
            });
            records.extend(
                queue.all().map(|message| Record::Message {
                    queue: name.clone(),
                    message: message.clone(),
                }),
            );
        }
        records
    }

    /// Applies a record that a log kept. Records are applied in order, from the first.
    pub fn restore(&mut self, record: Record) {
        match record {
            Record::Account { sequence, next_message, properties, deleted } => {
                self.sequence = sequence;
                self.next_message = next_message;
                self.properties = properties;
                self.deleted = deleted;
                self.queues.clear();
            }
            Record::Queue { name, metadata, policies } => {
                let mut queue = Queue::new(metadata);
                queue.set_policies(policies);
                self.queues.insert(name, queue);
            }
            Record::Message { queue, message } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.insert(message);
                }
            }
            Record::Commit(commit) => self.replay(commit),
        }
    }
}
