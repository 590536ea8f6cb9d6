//! What the program tells the site about itself and about an exchange.
//!
//! The site knows no web server and no FastCGI. The program hands it one pointer with each request, and
//! what is behind it is only asked for when a page shows it.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;

use crate::password::{BadHash, Password};

/// The program that serves the site, as a request extension: `extensions.insert(Server(&FACTS))`.
///
/// As an extractor it never fails: without the extension the program has nothing to tell.
#[derive(Clone, Copy, Debug)]
pub struct Server(pub &'static ServerFacts);

/// What a program can tell. Setting it costs a request nothing; each function is called when its answer
/// is shown.
#[derive(Debug)]
pub struct ServerFacts {
    /// Makes an id by which a failure is found in the log, so that the site's failures are named as the
    /// server's own are. A failure that is the site's (5xx) gets one, in its page and in the log; a
    /// visitor's slip (4xx) needs none. Empty when there is no log.
    pub reference: fn() -> String,
    /// The variables that came with an exchange (CGI's), by name and value, in their order. Secrets
    /// included: who shows them has to mask them.
    pub variables: fn(&Extensions) -> Vec<(String, String)>,
    /// What else is to be said about the program and an exchange, for people: a name of a few words and
    /// a value. The way in, the visitor's address.
    pub facts: fn(&Extensions) -> Vec<(&'static str, String)>,
    /// The visitor's address, by which tries of a password are counted; `None` where nobody tells it.
    pub address: fn(&Extensions) -> Option<IpAddr>,
    /// Whether the visitor came by HTTPS.
    pub is_https: fn(&Extensions) -> bool,
    /// Whether the process serves only this request and then exits (CGI): then slow work may be done in it.
    pub is_alone: fn(&Extensions) -> bool,
    /// The owner's password, where the web server sends it with each request (Apache's `SetEnv` in
    /// .htaccess). Only from web servers whose word is to be believed: whoever can set it is the owner.
    pub password: fn(&Extensions) -> Option<Result<Password, BadHash>>,
}

impl Server {
    /// A program that tells nothing.
    pub const SILENT: Server = Server(&ServerFacts {
        reference: String::new,
        variables: |_| Vec::new(),
        facts: |_| Vec::new(),
        address: |_| None,
        is_https: |_| false,
        is_alone: |_| false,
        password: |_| None,
    });

    /// Returns what the program set, or [`Server::SILENT`].
    pub fn of(extensions: &Extensions) -> Server {
        extensions.get().copied().unwrap_or(Server::SILENT)
    }

    /// Makes the id of a failure; `None` when there is no log that would have it.
    pub(crate) fn reference(self) -> Option<String> {
        Some((self.0.reference)()).filter(|reference| !reference.is_empty())
    }
}

impl<S: Sync> FromRequestParts<S> for Server {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Server::of(&parts.extensions))
    }
}
