//! The login: one owner, one password, on a host where many processes share nothing but a folder.
//!
//! `finish.rs` asks the [`Gate`] who a request comes from before the router sees it, and refuses what is
//! forged. What lives where:
//!
//! - `password.rs` the password and its hash, `password_rules.rs` which new one is taken, `hashing.rs` how one is checked, `queue.rs` who may when; `secrets.rs` the key that everything is derived from;
//! - `cookies.rs` and `session.rs` who is logged in; `throttle.rs` how often a password may be tried,
//!   `draw.rs` by whom under load;
//! - `forgery.rs` whether a form is ours; `next.rs` where to go after the login;
//! - `second_factor.rs` codes of an authenticator app, and recovery codes;
//! - `pages.rs` the pages: log in, log out; `account.rs` the owner's account, `events.rs` what happened to it;
//!   `set_up.rs` the first visit;
//! - `authorizer.rs` the login for folders that the web server serves itself;
//! - `visitor.rs` what the rest of the site knows of all this.
//!
//! Nothing here is opened or computed for a request without one of our cookies to a public page.

pub mod authorizer;
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
mod second_factor;
mod secrets;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod throttle;
mod visitor;

pub use crate::password::{BadHash, Password, ROUNDS};
pub use crate::random::NoRandomness;
pub use cookies::CookiePath;
pub(crate) use gate::Gate;
pub use settings::{KEY_FILE, LoginSettings, MadeUp, STORE_FILE};
pub use visitor::Visitor;
