//! A load generator: one thread, every answer checked, always bounded.
//!
//! What lives here: what is sent ([`parameters`]), how it is sent and the answers taken
//! ([`fastcgi`], [`http`]), when to begin, measure and stop ([`run`]), what is read of the server
//! from outside ([`process`]), the figures ([`latencies`], [`report`]). The words of the command
//! line are in [`options`].
//!
//! What does not: starting servers and comparing them, which `bench/run` does.

#![forbid(unsafe_code)]

pub mod answer;
pub mod fastcgi;
pub mod http;
pub mod latencies;
pub mod options;
pub mod parameters;
pub mod process;
pub mod report;
pub mod run;
