//! Output that says more than the journal holds yet.

use std::collections::VecDeque;

use journal::Position;

/// Which part of a connection's output waits for which position of the journal.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Ends of stretches of output, counted from the first byte ever, and what each waits for;
    /// both only grow.
    marks: VecDeque<(u64, Position)>,
    /// Bytes sent so far.
    sent: u64,
}

impl Held {
    /// How many of the `waiting` bytes of output may be sent. What came since the last call says
    /// nothing of what is after `position`.
    pub(super) fn sendable(
        &mut self,
        waiting: usize,
        position: Position,
        durable: Position,
    ) -> usize {
        let end = self.sent + waiting as u64;
        // Output may also be thrown away.
        while self.marks.back().is_some_and(|(at, _)| *at > end) {
            self.marks.pop_back();
        }
        let marked = self.marks.back().map_or(self.sent, |(at, _)| *at);
        if end > marked {
            match self.marks.back_mut() {
                Some((at, same)) if *same == position => *at = end,
                _ => self.marks.push_back((end, position)),
            }
        }
        let ready = self.marks.iter().take_while(|(_, position)| *position <= durable);
        let sendable = ready.last().map_or(0, |(at, _)| at - self.sent);
        usize::try_from(sendable).unwrap_or(waiting)
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        while self.marks.front().is_some_and(|(at, _)| *at <= self.sent) {
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_waits_for_what_it_says_and_for_what_is_before_it() {
        let mut held = Held::default();
        assert_eq!(held.sendable(0, 0, 0), 0);
        assert_eq!(held.sendable(10, 0, 0), 10);
        assert_eq!(held.sendable(15, 1, 0), 10);
        assert_eq!(held.sendable(20, 1, 0), 10);
        assert_eq!(held.sendable(30, 2, 1), 20);
        held.sent(12);
        assert_eq!(held.sendable(18, 2, 1), 8);
        assert_eq!(held.sendable(18, 2, 2), 18);
        held.sent(18);
        assert_eq!(held.sendable(5, 2, 2), 5);
        // The connection gives up and throws its output away.
        assert_eq!(held.sendable(9, 7, 2), 5);
        assert_eq!(held.sendable(0, 7, 2), 0);
        assert_eq!(held.sendable(4, 8, 7), 0);
        assert_eq!(held.sendable(4, 8, 8), 4);
    }
}
