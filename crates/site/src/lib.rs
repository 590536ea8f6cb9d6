//! What a tools site is made of: tools, pages, assets, errors.
//!
//! A *tool* is an axum `Router` with a name, a title and a few templates ([`Tool`]). [`router`] makes
//! one site of a table of them: the front page, `/healthz`, the static files, each tool under
//! `/tools/NAME`, and pages for everything that goes wrong. What lives where:
//!
//! - `tool.rs` the entry of the table, `router.rs` the site around it, `finish.rs` what every response
//!   gets on its way out, `https.rs` which requests are redirected to HTTPS;
//! - `settings.rs` what the owner decides, `server.rs` what the program tells, `base_path.rs` where the
//!   site is mounted, `format.rs` what the client wants to read;
//! - `page.rs` the frame of all pages, `error_page.rs` failures as pages;
//! - `assets.rs` the static files, which `build.rs` compiles in, with `byte_range.rs` for parts of them;
//!   `compress.rs` the compression of pages, `accept_encoding.rs` which one the client understands;
//! - `request_body.rs` and `multipart.rs` uploads of any size in bounded memory;
//! - `login.rs` and `login/` who is the owner, and what is the owner's alone;
//! - `store.rs` what the site remembers, in one SQLite file for all its processes; `pause.rs` waiting;
//! - `testing.rs` the site without a server, for tests.
//!
//! What does not live here: sockets, FastCGI, an async runtime, any one tool. The program that serves
//! the router tells it about an exchange by request extensions ([`BasePath`], [`Server`]).

#![forbid(unsafe_code)]
// They panic when nobody reads the output, and visitors never see it: log through `tracing` instead.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod http;
pub mod login;
mod middleware;
mod pages;
mod password;
mod pause;
mod router;
mod server;
mod settings;
pub mod store;
pub mod testing;
mod tool;

pub use crate::http::assets;
pub use crate::http::base_path::BasePath;
pub use crate::http::error::HttpError;
pub use crate::http::format::Format;
pub use crate::http::media_type::MediaType;
pub use crate::http::multipart::Multipart;
pub use crate::http::request_body::{BodyBroken, Chunks};
pub use event_loop::fork::Limits;
pub use login::{LoginSettings, Visitor};
pub use pages::error_page;
pub use pages::page::Page;
pub use password::Password;
pub use router::{router, router_with};
pub use server::{Server, ServerFacts};
pub use settings::SiteSettings;
pub use store::{Store, StoreError};
pub use tera::{Context, context};
pub use tool::{Access, Runs, Template, Tool, tool_at};
