//! What the program reports to the site about itself and about a request.
//!
//! The site does not know web servers or FastCGI. The program passes one pointer with each request; the values behind
//! it are computed only when a page shows them.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;

use crate::password::{BadHash, Password};

/// The program that serves the site, as a request extension: `extensions.insert(Server(&FACTS))`.
///
/// As an extractor it never fails: without the extension, the program reports nothing.
#[derive(Clone, Copy, Debug)]
pub struct Server(pub &'static ServerFacts);

/// What a program and its site are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The program, as in its commands and files: `toolshed`.
    pub program: &'static str,
    /// The site, as in titles of pages and in authenticator apps: `Toolshed`.
    pub title: &'static str,
}

/// The name of our own.
impl Default for Name {
    fn default() -> Self {
        Name::TOOLSHED
    }
}

impl Name {
    /// The name of our own.
    pub const TOOLSHED: Name = Name { program: "toolshed", title: "Toolshed" };
}

/// What a program can report. It costs a request nothing; each function is called only when its result is needed.
#[derive(Debug)]
pub struct ServerFacts {
    /// What program and site are called.
    pub name: Name,
    /// Makes an id by which an error is found in the log, in the format of the server's own. A server error (5xx) gets
    /// one, in its page and in the log; a client error (4xx) needs none. Empty if there is no log.
    pub reference: fn() -> String,
    /// The variables of a request (CGI's), by name and value, in their order. Secrets included: mask them before
    /// showing any.
    pub variables: fn(&Extensions) -> Vec<(String, String)>,
    /// What else there is to know about the program and a request, for people: a short name and a value. For example
    /// the transport and the visitor's address.
    pub facts: fn(&Extensions) -> Vec<(&'static str, String)>,
    /// The visitor's address, by which attempts at a password are counted; `None` if it is unknown.
    pub address: fn(&Extensions) -> Option<IpAddr>,
    /// Whether the visitor came by HTTPS.
    pub is_https: fn(&Extensions) -> bool,
    /// Whether the process serves only this request and then exits (CGI): then it may do slow work itself.
    pub serves_one_request: fn(&Extensions) -> bool,
    /// Whether the process is about to exit, so that load balancers should send it nothing new.
    pub is_draining: fn() -> bool,
    /// The owner's password, if the web server sends it with each request (Apache's `SetEnv` in .htaccess). Only from
    /// trusted web servers: anyone who can set it is the owner.
    pub password: fn(&Extensions) -> Option<Result<Password, BadHash>>,
}

impl Server {
    /// A program that reports nothing.
    pub const SILENT: Server = Server(&ServerFacts {
        name: Name::TOOLSHED,
        reference: String::new,
        variables: |_| Vec::new(),
        facts: |_| Vec::new(),
        address: |_| None,
        is_https: |_| false,
        serves_one_request: |_| false,
        is_draining: || false,
        password: |_| None,
    });

    /// Returns what the program set, or [`Server::SILENT`].
    pub fn of(extensions: &Extensions) -> Server {
        extensions.get().copied().unwrap_or(Server::SILENT)
    }

    /// Returns what program and site are called.
    pub(crate) fn name(self) -> Name {
        self.0.name
    }

    /// Makes the id of an error; `None` if there is no log to find it in.
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
