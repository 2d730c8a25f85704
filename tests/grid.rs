//! Event Grid on the real stack.
