//! What an application needs around its server on a host where nothing but files can be reached: settings with advice, a
//! log that its owner can read, upgrades by uploading a file, a check, a command line.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use axum::{Router, routing::get};
//!
//! fn router() -> Router {
//!     Router::new().route("/", get(|| async { "Hello" }))
//! }
//!
//! fn main() -> ExitCode {
//!     hosted::main(router)
//! }
//! ```
//!
//! [`main`] finds out how the process was started: by a web server (FastCGI, CGI), by a shell, by a supervisor. An
//! application with settings or commands of its own is an [`App`], and [`run`] its `main`.
//!
//! `app.rs` is what a program is made of, `parts.rs` what can be left out, `application.rs` the simplest one; `commands.rs` which command runs, with one
//! file for each in `commands/`; `job.rs` what is left of it for a loop; `config.rs` its settings; `installation.rs` its
//! files; `upgrade.rs` what is saved of the last version that passed its check; `late_service.rs` and `wrong_settings.rs`
//! what visitors get instead of a service; `http_error.rs` what handlers return that fail, `error_pages.rs`
//! what visitors see of it; `store.rs` the rows that a program keeps; `cargo_project.rs` what `watch` builds;
//! `front.rs` how web servers describe requests; `mounted.rs` a layer for applications below a folder; `log.rs` where
//! messages go, `threads.rs` and `processes.rs` what they say if there are several; `report.rs` what a command prints at
//! its end; `launcher.rs` what the web server runs; `testing.rs` what tests of an application run in.

#![forbid(unsafe_code)]
// docs.rs says which items need a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod app;
mod application;
#[cfg(feature = "development")]
mod cargo_project;
mod commands;
pub mod config;
mod error_pages;
pub mod findings;
mod flags;
mod front;
mod http_error;
pub mod installation;
mod job;
mod late_service;
mod launcher;
pub mod log;
mod mounted;
mod parts;
mod processes;
mod program;
pub mod report;
mod runtime;
#[cfg(feature = "store")]
pub mod store;
pub mod testing;
mod threads;
mod unavailable;
mod upgrade;
mod wrong_settings;

/// What the server knows of a request.
pub use app_server::{ErrorReport, RequestContext};

pub use app::{App, By, Introduction, NoCommands, Start};
#[cfg(feature = "tokio")]
pub use application::serve;
pub use application::{
    Application, Async, AsyncResult, Build, Built, KeepsNothing, Plain, PlainResult, WhatIsKept,
    main,
};
pub use commands::run;
pub use http_error::HttpError;
pub use mounted::{Mounted, MountedFuture, MountedService};
pub use parts::Parts;
pub use program::Program;
pub use runtime::Runtime;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
