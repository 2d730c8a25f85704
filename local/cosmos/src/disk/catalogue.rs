//! The catalogue: databases, containers and offers, in a small file of its own.
//!
//! They change rarely and are needed before any item can be read back, so the whole file is
//! written anew each time: to a temporary name, synced, renamed. Its first line is the checksum of
//! the rest.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::StorageError;
use crate::store::{Change, Commit, ContainerRid, DatabaseRid};

const NAME: &str = "catalogue.json";
const TEMPORARY_NAME: &str = "catalogue.tmp";

/// The format of everything in the directory.
const FORMAT: u32 = 1;

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Catalogue {
    format: u32,
    pub(super) incarnation: u64,
    /// The oldest file of the log; older ones that are still there have been given up.
    pub(super) first_segment: u64,
    pub(super) sequence: u64,
    pub(super) next_database: u32,
    pub(super) next_container: u32,
    pub(super) databases: Vec<DatabaseEntry>,
    pub(super) containers: Vec<ContainerEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DatabaseEntry {
    pub(super) rid: u32,
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) created_at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ContainerEntry {
    pub(super) database: u32,
    pub(super) number: u32,
    pub(super) version: u64,
    pub(super) changed_at_ms: u64,
    pub(super) properties: Map<String, Value>,
    /// The `content` of its throughput offer.
    pub(super) offer: Option<Value>,
}

impl ContainerEntry {
    pub(super) fn rid(&self) -> ContainerRid {
        ContainerRid(DatabaseRid(self.database), self.number)
    }
}

impl Catalogue {
    /// That of a new, empty account.
    pub(super) fn new(incarnation: u64) -> Self {
        Self {
            format: FORMAT,
            incarnation,
            first_segment: 1,
            sequence: 0,
            next_database: 0,
            next_container: 0,
            databases: Vec::new(),
            containers: Vec::new(),
        }
    }

    /// Reads the file; `None` when there is none.
    pub(super) fn load(directory: &Path) -> Result<Option<Self>, StorageError> {
        let path = directory.join(NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StorageError::Io { path, source }),
        };
        let damaged = |path: PathBuf, what: &str| StorageError::Corrupt {
            path,
            offset: 0,
            what: what.to_owned(),
        };
        let Some((checksum, body)) = text.split_once('\n') else {
            return Err(damaged(path, "the first line is not a checksum"));
        };
        if checksum != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
            return Err(damaged(path, "the text does not match its checksum"));
        }
        match serde_json::from_str::<Self>(body) {
            Ok(catalogue) if catalogue.format == FORMAT => Ok(Some(catalogue)),
            Ok(catalogue) => {
                let what = format!("format {} is not known here", catalogue.format);
                Err(damaged(path, &what))
            }
            Err(error) => Err(damaged(path, &error.to_string())),
        }
    }

    /// Replaces the file; when this returns the new one is durable.
    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        let body = serde_json::to_string_pretty(self)?;
        let temporary = directory.join(TEMPORARY_NAME);
        let mut file = File::create(&temporary)?;
        writeln!(file, "{:08x}", crc32fast::hash(body.as_bytes()))?;
        file.write_all(body.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(temporary, directory.join(NAME))?;
        sync_directory(directory)
    }

    /// Takes a change in; whether it concerns the catalogue.
    pub(super) fn apply(&mut self, commit: &Commit) -> bool {
        match &commit.change {
            Change::CreateDatabase { rid, id } => {
                self.next_database = self.next_database.max(rid.0 + 1);
                self.databases.push(DatabaseEntry {
                    rid: rid.0,
                    id: id.clone(),
                    version: commit.sequence,
                    created_at_ms: commit.at_ms,
                });
            }
            Change::DropDatabase { rid } => {
                self.databases.retain(|known| known.rid != rid.0);
                self.containers.retain(|known| known.database != rid.0);
            }
            Change::PutContainer { rid, properties } => {
                self.next_container = self.next_container.max(rid.1 + 1);
                let mut entry = ContainerEntry {
                    database: rid.0.0,
                    number: rid.1,
                    version: commit.sequence,
                    changed_at_ms: commit.at_ms,
                    properties: properties.clone(),
                    offer: None,
                };
                match self.containers.iter_mut().find(|known| known.rid() == *rid) {
                    Some(known) => {
                        entry.offer = known.offer.take();
                        *known = entry;
                    }
                    None => self.containers.push(entry),
                }
            }
            Change::DropContainer { rid } => self.containers.retain(|known| known.rid() != *rid),
            Change::PutOffer { rid, content } => {
                let known = self.containers.iter_mut().find(|known| known.rid() == *rid);
                known.into_iter().for_each(|known| known.offer = Some(content.clone()));
            }
            Change::Expire { .. } | Change::Items { .. } => return false,
        }
        self.sequence = commit.sequence;
        true
    }
}

/// Makes creations, renames and removals of files durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
