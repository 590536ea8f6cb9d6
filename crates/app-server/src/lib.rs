//! Serves any [`tower_service::Service`] from one process with one thread, however requests come in.
//!
//! What lives here: the ways in ([`WayIn`], and [`request`] for the shell), one file each; the mapping
//! between CGI variables and HTTP; request bodies with backpressure; limits ([`Settings`]); starting,
//! draining and ending ([`run`]).
//!
//! What does not: FastCGI's wire format (`fastcgi-server`), sockets and timers (`event-loop`), any
//! page or tool (the application's).
//!
//! The data flow: `listen.rs` accepts → `fastcgi.rs` or `http.rs` (bytes ⇄ exchanges), or `cgi.rs` alone →
//! `cgi_to_http.rs` → `exchange.rs` calls the application → `http_to_cgi.rs` → back out.
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
//! let way_in = app_server::WayIn::inherited().unwrap_or("http:127.0.0.1:8080".parse().unwrap());
//! app_server::run(Hello, way_in, app_server::Settings::default()).unwrap();
//! ```

#![forbid(unsafe_code)]

mod cgi_vars;
mod error;
mod error_report;
pub mod isolation;
mod recovery;
mod request;
mod server;
mod settings;
mod supervisor;
mod transport;
mod upgrade;

pub use cgi_vars::base_path::BasePath;
pub use cgi_vars::forwarded::TrustedProxy;
pub use error::{Error, MIN_DESCRIPTORS, check_descriptors};
pub use error_report::{Cause, ErrorReport, reference};
pub use event_loop::net::Address;
pub use fastcgi_server::Role;
pub use request::body::{Body, BodyError};
pub use request::context::{CgiVariables, Exchange, FilterData, Scheme, Secrets};
pub use server::listen::WayIn;
#[cfg(feature = "tokio")]
pub use server::run_in_tokio;
pub use server::{run, serve};
pub use settings::Settings;
pub use supervisor::{Workers, is_worker, supervise};
pub use sys::allocator::Allocator;
pub use transport::shell::request;
pub use upgrade::Upgrade;
