//! The whole system on one machine: build, stage, start, seed, watch, stop.
