//! A Functions host for custom handlers: discovery, supervision, HTTP proxying, triggers.
