//! The login of a site's owner, for any hosted application: one owner, one password, sessions that hold over processes and
//! machines, a second factor, set-up without a shell.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use axum::{Router, middleware::from_fn, routing::get};
//! use hosted_login::store::{Schema, Store};
//! use hosted_login::{Application, Visitor, owner_only};
//!
//! const SCHEMA: Schema = Schema { name: "my_app", migrations: &[] };
//!
//! fn main() -> ExitCode {
//!     Application::new(SCHEMA, router).title("My app").main()
//! }
//!
//! fn router(store: Store) -> Router {
//!     let private = Router::new()
//!         .route("/admin", get(|| async { "For the owner" }))
//!         .route_layer(from_fn(owner_only));
//!     Router::new().route("/", get(front)).merge(private).with_state(store)
//! }
//!
//! async fn front(visitor: Visitor) -> &'static str {
//!     if visitor.is_owner() { "Hello, owner" } else { "Hello" }
//! }
//! ```
//!
//! Set the password with the command `set-password`, or on the page `/set-up`; at home `serve` makes one up and prints it.
//! docs/login.md has all of it.
//!
//! `application.rs` is such an application; `settings.rs` what its owner sets, `commands.rs` the two commands about the password,
//! `generated_password.rs` the one for trying it out, `look.rs` what `check` says, `request.rs` what the server tells
//! the login of a request, `error_pages.rs` failures as pages, `entries.rs` its files. The login itself is the crate `site`'s.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod application;
pub mod commands;
pub mod entries;
mod error_pages;
mod generated_password;
mod hash_password;
mod look;
pub mod request;
mod set_password;
pub mod settings;

pub use application::Application;
pub use error_pages::error_page;
pub use generated_password::{Printed, generate};
/// Rows: as in `hosted`.
pub use hosted::store;
pub use look::look;
pub use settings::{HasOwner, OwnerSettings};
pub use site::{Visitor, owner_only};
