//! The whole system on one machine: build, stage, start, seed, watch, stop.
//!
//! `stack` starts the stand-ins and one Functions host per app, each as a process of its own, and
//! says where they are and what is wrong. It knows names from `infra/topology.json` and settings
//! from the environment. It has never heard of an order, but for [`slo`] and [`dlq`], which are
//! clients of the running system's API like any other.

pub mod app;
pub mod bank;
pub mod child;
pub mod dlq;
pub mod doctor;
pub mod endpoints;
pub mod fault;
pub mod lines;
pub mod ports;
pub mod report;
pub mod seed;
pub mod serve;
mod signal;
pub mod slo;
pub mod stage;
pub mod subscriber;
pub mod topology;
pub mod up;
pub mod workspace;
