//! The JSON text of an item: in memory, in the log, or both.
//!
//! A million items of 1 KB are a gigabyte of text. What has been written to the log is read back
//! from there when it is asked for; only what was written last stays in memory.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::disk::Segment;

/// The text of one item.
pub struct Text {
    slot: Mutex<Slot>,
    length: u32,
}

#[derive(Default)]
struct Slot {
    memory: Option<Bytes>,
    place: Option<Place>,
    /// Only kept for its history; the log need not keep it.
    outdated: bool,
}

impl Slot {
    fn counted(&self) -> Option<&Place> {
        self.place.as_ref().filter(|_| !self.outdated)
    }
}

/// Where a text lies in the log.
#[derive(Clone)]
pub(crate) struct Place {
    /// The file.
    pub(crate) segment: Arc<Segment>,
    /// First byte of the text in it.
    pub(crate) offset: u32,
    /// CRC-32 of the text.
    pub(crate) checksum: u32,
}

impl Text {
    /// A text that is in memory only.
    pub fn new(text: Bytes) -> Self {
        let length = length(text.len());
        Self { slot: Mutex::new(Slot { memory: Some(text), ..Slot::default() }), length }
    }

    /// A text of `length` bytes that is in the log only.
    pub(crate) fn stored(place: Place, length: u32) -> Self {
        place.segment.add_live(length);
        Self { slot: Mutex::new(Slot { place: Some(place), ..Slot::default() }), length }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether it has no bytes, which no item has.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The text. When the log cannot be read back the service stops answering (the failure is kept
    /// with the log), and what is returned here never leaves the process.
    pub fn read(&self) -> Bytes {
        let place = {
            let slot = self.lock();
            match (&slot.memory, &slot.place) {
                (Some(text), _) => return text.clone(),
                (None, Some(place)) => place.clone(),
                (None, None) => return Bytes::from_static(b"{}"),
            }
        };
        place.segment.read_text(place.offset, self.length, place.checksum)
    }

    /// Remembers where the log has it.
    pub(crate) fn set_place(&self, place: Place) {
        place.segment.add_live(self.length);
        let old = self.lock().place.replace(place);
        old.inspect(|old| old.segment.remove_live(self.length));
    }

    /// Lets the log give up the file that it is in. It can be read as long as it is here.
    pub(super) fn supersede(&self) {
        let mut slot = self.lock();
        slot.counted().inspect(|place| place.segment.remove_live(self.length));
        slot.outdated = true;
    }

    /// Whether this is where the log has it.
    pub(crate) fn is_at(&self, segment: &Arc<Segment>, offset: u32) -> bool {
        let slot = self.lock();
        let place = slot.place.as_ref();
        place.is_some_and(|place| place.offset == offset && Arc::ptr_eq(&place.segment, segment))
    }

    /// Takes another copy of the text into memory in place of the one that is there.
    pub(crate) fn keep(&self, text: Bytes) {
        self.lock().memory = Some(text);
    }

    /// Gives up the copy in memory if the log has one.
    pub(crate) fn forget(&self) {
        let mut slot = self.lock();
        if slot.place.is_some() {
            slot.memory = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Items are at most a few megabytes.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Drop for Text {
    fn drop(&mut self) {
        let slot = self.slot.get_mut().unwrap_or_else(PoisonError::into_inner);
        slot.counted().inspect(|place| place.segment.remove_live(self.length));
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.read() == other.read()
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.read()))
    }
}
