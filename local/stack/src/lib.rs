//! The whole system on one machine: build, stage, start, seed, watch, stop.
//!
//! `stack` starts the stand-ins and one Functions host per app, each as a process of its own, and
//! says where they are and what is wrong. It knows names from `infra/topology.json` and settings
//! from the environment. It has never heard of an order, but for [`slo`], [`dlq`], [`order`] and [`logs`],
//! which are clients of the running system's API like any other.

// A closed pipe must not end in a panic: see `output` and `report`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod bank;
pub mod child;
mod client;
mod cosmos_role;
pub mod declare;
pub mod dlq;
pub mod doctor;
pub mod emulators;
pub mod endpoints;
pub mod fault;
pub mod lines;
pub mod logs;
pub mod order;
pub mod output;
pub mod package;
pub mod ports;
pub mod report;
pub mod seed;
pub mod serve;
pub mod settings;
mod signal;
pub mod slo;
pub mod stage;
pub mod subscriber;
mod table;
pub mod topology;
pub mod up;
pub mod workspace;
