//! What a tools site is made of: tools, pages, assets, errors.
//!
//! A *tool* is an axum `Router` with a name, a title and a few templates ([`Tool`]). [`router`] makes
//! one site of a table of them: the front page, `/healthz`, the static files, each tool under
//! `/tools/NAME`, and pages for everything that goes wrong.
//!
//! The crate is built in floors; each imports only those below it (`tests/floors.rs` checks that). From the top:
//!
//! - `router.rs` the site as one router; `around.rs` its login around an application of somebody's own;
//! - `middleware.rs` what happens to every request before its handler and to every response after it, `settings.rs`
//!   what the owner decides;
//! - `login/` who the owner is, and what only the owner may use;
//! - `pages/` templates, the frame of all pages, and failures as pages: values in, pages out;
//! - `http/` what HTTP says: content negotiation, media types, compression, byte ranges, static files, request
//!   bodies, errors as values;
//! - `tool.rs` the entry of the table, `expiry.rs` the removal of expired blobs, `crashes.rs` the crashes on all
//!   machines, `server.rs` what the program reports about itself, `password.rs`, `random.rs`, `words.rs`.
//!
//! `testing.rs` is the site without a server, for tests.
//!
//! Not here: sockets, FastCGI, an async runtime, any particular tool. The program that serves the router describes a
//! request by its extensions ([`BasePath`], [`Server`]).

#![forbid(unsafe_code)]
// They panic if nobody reads the output, and visitors never see it: log through `tracing` instead.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod around;
mod crashes;
mod expiry;
mod http;
pub mod login;
mod middleware;
mod pages;
mod password;
mod random;
mod router;
mod server;
mod settings;
pub mod testing;
mod tool;
mod words;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/storing.md")]
mod storing {}

pub use crate::http::assets;
pub use crate::http::base_path::BasePath;
pub use crate::http::download::Download;
pub use crate::http::error::HttpError;
pub use crate::http::format::Format;
pub use crate::http::media_type::MediaType;
pub use crate::http::multipart::Multipart;
pub use crate::http::request_body::{BodyBroken, Chunks};
pub use around::{around, owner_only};
pub use blobs;
pub use blobs::Blobs;
pub use crashes::{KnownCrash, OwnCrash, SharedCrashes};
pub use expiry::{BlobExpiry, EXPIRY_FILE};
pub use login::{LoginSettings, Visitor};
pub use pages::error_page;
pub use pages::page::Page;
pub use password::Password;
pub use process::Limits;
pub use router::{router, router_with};
pub use server::{Name, Server, ServerFacts};
pub use settings::{ALL_TOOLS, SiteSettings};
pub use storage;
pub use storage::{Store, StoreError};
pub use tera::{Context, context};
pub use tool::{Access, Runs, Template, Tool, schemas, tool_at};
pub use words::{grouped, size};
