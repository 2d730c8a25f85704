//! What an order is and how it may change: pure decisions, no I/O, no clock, no async.
