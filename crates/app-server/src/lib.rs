//! Serves any [`tower_service::Service`] from a single-threaded process, over FastCGI, HTTP or CGI.
//!
//! What lives here: the transports ([`Transport`], and [`Server::request`] for the shell); the mapping between CGI
//! variables and HTTP; request bodies with backpressure; limits ([`Settings`]); starting,
//! draining and exiting ([`Server`]).
//!
//! What does not: FastCGI's wire format (`fastcgi-server`), sockets and timers (`event-loop`), any
//! page or tool (the application's).
//!
//! The data flow: `server/accept.rs` accepts → `transport/` (bytes ⇄ requests, with `cgi_vars/`) → `isolation/` (here
//! or in a child?) → `request/` calls the application → `transport/` → back out.
//!
//! ```no_run
//! # use std::convert::Infallible;
//! # use bytes::Bytes;
//! # use http_body_util::Full;
//! #[derive(Clone)]
//! struct Hello;
//!
//! impl tower_service::Service<http::Request<app_server::Body>> for Hello {
//!     type Response = http::Response<Full<Bytes>>;
//!     type Error = Infallible;
//!     type Future = std::future::Ready<Result<Self::Response, Infallible>>;
//!     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
//!         std::task::Poll::Ready(Ok(()))
//!     }
//!     fn call(&mut self, _: http::Request<app_server::Body>) -> Self::Future {
//!         std::future::ready(Ok(http::Response::new(Full::from("Hello"))))
//!     }
//! }
//!
//! let transport = app_server::Transport::inherited().unwrap_or("http:127.0.0.1:8080".parse().unwrap());
//! app_server::Server::new(Hello).run(transport).unwrap();
//! ```

#![forbid(unsafe_code)]
// docs.rs says which items need a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cause;
mod cgi_vars;
mod connections;
mod cure;
mod error;
mod error_report;
mod host;
pub mod isolation;
mod listen;
mod node;
mod part;
mod phase;
mod recovery;
mod request;
mod server;
mod settings;
mod shutdown;
mod supervisor;
mod transport;
mod upgrade;
mod worker;

pub use cause::{Cause, Failed};
pub use cgi_vars::base_path::BasePath;
pub use cgi_vars::forwarded::{Scheme, TrustedProxy};
pub use cgi_vars::gateway::{CgiVariables, Secrets};
pub use cure::cure_of;
pub use error::{Error, MIN_DESCRIPTORS, check_descriptors};
pub use error_report::{ErrorReport, plain_text as plain_text_page, reference};
pub use event_loop::net::Address;
pub use fastcgi_server::Role;
pub use host::Host;
pub use node::{node, set_node};
pub use part::Part;
pub use recovery::{
    CRASHES_ELSEWHERE_FILE, CRASHES_FILE, Crash, CrashElsewhere, OLD_CRASHES_FILE, recent_crashes,
    set_crashes_elsewhere,
};
pub use request::body::{Body, BodyError};
pub use request::context::{FilterData, RequestContext};
pub use request::service::{HttpResponse, HttpService, NeverFails};
pub use server::{Server, run};
#[cfg(feature = "tokio")]
pub use server::{run_in_this_tokio, run_in_tokio};
pub use settings::Settings;
pub use shutdown::is_draining;
pub use supervisor::{Workers, supervise};
pub use sys::allocator::Allocator;
pub use transport::cgi::reserve_standard_output;
pub use transport::{Protocol, Transport};
pub use upgrade::Upgrade;
pub use upgrade::watch::{ARRIVING_SUFFIX, PREVIOUS_SUFFIX};
pub use worker::is_worker;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
