//! The Function Apps of Bulkhead.
