//! The login: one owner, one password, on a host where many processes share nothing but a folder.
//!
//! `middleware.rs` asks the `Gate` who sends a request before the router sees it. What lives where:
//!
//! - `gate.rs` identifies the visitor, `visitor.rs` is what the rest of the site knows about the visitor, `settings.rs`
//!   what the owner decides, `authorizer.rs` the login for folders that the web server serves itself;
//! - `session.rs` and `cookies.rs` who is logged in, `secrets.rs` the key that everything is derived from,
//!   `shared_key.rs` whether it is that of all machines, `readiness.rs` whether this one is ready, `facts.rs` single
//!   values, `clock.rs` the time;
//! - `hashing.rs` checks a password, `queue.rs` decides when; `throttle.rs` how often a client (`client.rs`) may try
//!   one, `draw.rs` who is next under load;
//! - `second_factor.rs` codes of an authenticator app, and recovery codes;
//! - `forgery.rs` whether a form is ours, `next.rs` where to go after the login;
//! - `events.rs` what happened to the account;
//! - `backups.rs` the backups that the owner makes and restores on a page;
//! - `pages/` the login's own pages.
//!
//! The password itself is in `password.rs`, a floor below.

pub mod authorizer;
mod backups;
mod client;
mod clock;
mod cookies;
mod draw;
mod events;
mod facts;
mod forgery;
mod gate;
mod hashing;
mod next;
pub(crate) mod pages;
mod queue;
mod readiness;
mod schema;
mod second_factor;
mod secrets;
mod session;
mod settings;
mod shared_key;
#[cfg(test)]
mod tests;
mod throttle;
mod visitor;

pub use crate::password::{BadHash, Password, ROUNDS};
pub use crate::random::NoRandomness;
pub use backups::{BACKUPS_FOLDER, restore};
pub use cookies::CookiePath;
pub use gate::QUEUE_FOLDER;
pub(crate) use gate::{Gate, SharedGate};
pub use settings::{GeneratedPassword, KEY_FILE, LoginSettings, STORE_FILE};
pub use shared_key::KeyError;
pub use visitor::Visitor;
