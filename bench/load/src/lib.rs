//! A load generator: one thread, every response checked, always bounded.
//!
//! What lives here: what is sent ([`parameters`]), sending it and reading the responses
//! ([`fastcgi`], [`http`]), when to start, measure and stop ([`run`]), what is observed of the server
//! from outside ([`process`]), and the results ([`latencies`], [`report`]). The command line is in
//! [`options`].
//!
//! What does not: starting servers and comparing them, which `bench/run` does.

#![forbid(unsafe_code)]

pub mod fastcgi;
pub mod http;
pub mod latencies;
pub mod options;
pub mod parameters;
pub mod process;
pub mod report;
pub mod response;
pub mod run;
