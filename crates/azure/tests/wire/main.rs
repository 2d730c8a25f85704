//! What this crate puts on the wire, and what it makes of the answers, against servers that are
//! scripted byte by byte. The services' own behaviour is not tested here.

mod bus;
mod cosmos;
mod stub;
