//! What a web server or proxy says about a request besides its head: CGI variables, and what is derived
//! from them or from `X-Forwarded-…` headers.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use fastcgi_server::{Params, Role};
use http::StatusCode;

use crate::cgi_vars::base_path::BasePath;
use crate::cgi_vars::forwarded::Scheme;

/// What the web server or proxy in front says about one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gateway {
    /// Where the site is mounted.
    pub(crate) base: BasePath,
    /// How the client reached the web server or the outermost trusted proxy.
    pub(crate) scheme: Scheme,
    /// The client's address, if it is known.
    pub(crate) remote_address: Option<IpAddr>,
    /// The status of an internal redirect in the web server.
    pub(crate) redirect_status: Option<StatusCode>,
    /// The requested role; only over FastCGI.
    pub(crate) role: Option<Role>,
    /// Only over FastCGI and CGI.
    pub(crate) variables: Option<CgiVariables>,
    /// The passwords among the variables, if there are any.
    pub(crate) secrets: Option<Secrets>,
}

impl Gateway {
    /// Nothing in front: mounted at the root of its host, plain HTTP, no client address.
    pub(crate) const NONE: Gateway = Gateway {
        base: BasePath::root(),
        scheme: Scheme::Http,
        remote_address: None,
        redirect_status: None,
        role: None,
        variables: None,
        secrets: None,
    };
}

/// All variables that the web server sent (RFC 3875 §4.1 and its own), except for the [`Secrets`]. Only
/// over FastCGI and CGI.
///
/// Names and values are the bytes as received. `Debug` shows only the names, because values may hold
/// passwords.
#[derive(Clone)]
pub struct CgiVariables(pub(crate) Params);

impl CgiVariables {
    /// Returns the first variable with this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name.as_bytes())
    }

    /// Returns the first variable with this name, sharing the request's memory.
    pub fn get_bytes(&self, name: &str) -> Option<Bytes> {
        self.0.get_bytes(name.as_bytes())
    }

    /// All variables, in the order received.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter()
    }
}

impl fmt::Debug for CgiVariables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        formatter.debug_set().entries(names).finish()
    }
}

/// The passwords among the variables that the web server sent ([`Settings::secret_variables`]), kept
/// separate so that code that displays, logs or forwards the variables does not leak them. Present only
/// if there are any; never over HTTP.
///
/// `Debug` shows neither names nor values.
///
/// [`Settings::secret_variables`]: crate::Settings::secret_variables
#[derive(Clone)]
pub struct Secrets(pub(crate) Params);

impl Secrets {
    /// Returns the secret with this name. It may have arrived with any number of `REDIRECT_` prefixes; of
    /// several, the newest is returned.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name.as_bytes())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(..)")
    }
}
