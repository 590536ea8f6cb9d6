//! What an application may ask about an exchange: request extensions, present on every request
//! unless said otherwise.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fastcgi_server::Params;

use crate::body::Body;

/// All variables the web server sent (RFC 3875 §4.1 and its own), but for the [`Secrets`]. Only over
/// FastCGI and CGI.
///
/// Names and values are bytes as they came. `Debug` shows the names alone: values hold passwords.
#[derive(Clone)]
pub struct CgiVariables(pub(crate) Params);

impl CgiVariables {
    /// Returns the first variable of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name.as_bytes())
    }

    /// Returns the first variable of this name, sharing the request's memory.
    pub fn get_bytes(&self, name: &str) -> Option<Bytes> {
        self.0.get_bytes(name.as_bytes())
    }

    /// All variables in the order in which they came.
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

/// The passwords among the variables the web server sent ([`Settings::secret_variables`]), kept apart so
/// that whoever shows, logs or hands on the variables does not hand on these. Present only when there
/// are any; over HTTP there are none.
///
/// `Debug` shows neither names nor values.
///
/// [`Settings::secret_variables`]: crate::Settings::secret_variables
#[derive(Clone)]
pub struct Secrets(pub(crate) Params);

impl Secrets {
    /// Returns the secret of this name. It may have come with `REDIRECT_` before it, once or more often;
    /// of several the newest is returned.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name.as_bytes())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(..)")
    }
}

/// The visitor's address as the web server (or the HTTP connection) tells it, or a proxy of
/// [`Settings::trusted_proxies`]. Absent over unix sockets where nobody tells one.
///
/// [`Settings::trusted_proxies`]: crate::Settings::trusted_proxies
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteAddress(pub IpAddr);

/// How the visitor reached the web server, or the outermost trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTPS.
    Https,
}

/// The file a filter is to filter (FastCGI 1.0 §6.4): the DATA stream. Only in the filter role.
#[derive(Clone)]
pub struct FilterData(Arc<Mutex<Option<Body>>>);

impl FilterData {
    pub(crate) fn new(body: Body) -> Self {
        FilterData(Arc::new(Mutex::new(Some(body))))
    }

    /// Takes the stream; `None` when it was taken before. STDIN, the request's body, comes first
    /// on the wire: read it to its end before this one.
    pub fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}
