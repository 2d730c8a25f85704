//! Rules of the store, each shown on a clock that only the test moves.
