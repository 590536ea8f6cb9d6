//! What an application can learn about a request: one request extension, [`RequestContext`], on every
//! request. It is a single extension because each one costs an allocation and a row in the extension
//! table.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fastcgi_server::{Params, Role};
use http::Extensions;

use crate::cgi_vars::base_path::BasePath;
use crate::cgi_vars::forwarded::Scheme;
use crate::part::Part;
use crate::request::body::Body;

/// What the server knows about a request besides its head and body. A request extension: axum handlers
/// take it as `Extension(context): Extension<RequestContext>`.
///
/// ```
/// # use app_server::{RequestContext, Scheme};
/// fn link<B>(request: &http::Request<B>, path: &str) -> String {
///     let context = RequestContext::of(request.extensions());
///     format!("{}{path}", context.base())
/// }
/// assert_eq!(link(&http::Request::new(()), "/a"), "/a");
/// ```
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    pub(crate) base: BasePath,
    pub(crate) scheme: Scheme,
    pub(crate) remote_address: Option<IpAddr>,
    pub(crate) role: Option<Role>,
    pub(crate) part: Part,
    pub(crate) variables: Option<CgiVariables>,
    pub(crate) secrets: Option<Secrets>,
    pub(crate) filter_data: Option<FilterData>,
}

impl RequestContext {
    /// Returns the context from a request's extensions. A request that did not come through a server (in
    /// a test, for example) has the default: mounted at the root of its host, plain HTTP, no client
    /// address.
    pub fn of(extensions: &Extensions) -> &RequestContext {
        static NONE: RequestContext = RequestContext {
            base: BasePath::root(),
            scheme: Scheme::Http,
            remote_address: None,
            role: None,
            part: Part::NONE,
            variables: None,
            secrets: None,
            filter_data: None,
        };
        extensions.get().unwrap_or(&NONE)
    }

    /// Where the site is mounted.
    pub fn base(&self) -> &BasePath {
        &self.base
    }

    /// How the client reached the web server or the outermost trusted proxy.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The client's address as reported by the web server (or the HTTP connection), or by a proxy in
    /// [`Settings::trusted_proxies`]. `None` over unix sockets where no address is reported.
    ///
    /// [`Settings::trusted_proxies`]: crate::Settings::trusted_proxies
    pub fn remote_address(&self) -> Option<IpAddr> {
        self.remote_address
    }

    /// The role that the web server requests (FastCGI 1.0 §6). Only over FastCGI.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// The variables the web server sent. Only over FastCGI and CGI.
    pub fn variables(&self) -> Option<&CgiVariables> {
        self.variables.as_ref()
    }

    /// The passwords among the variables, if there are any. Never over HTTP.
    pub fn secrets(&self) -> Option<&Secrets> {
        self.secrets.as_ref()
    }

    /// The file to filter. Only in the filter role.
    pub fn filter_data(&self) -> Option<&FilterData> {
        self.filter_data.as_ref()
    }
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

/// The file to be filtered (FastCGI 1.0 §6.4): the DATA stream. Only in the filter role.
#[derive(Clone)]
pub struct FilterData(Arc<Mutex<Option<Body>>>);

impl fmt::Debug for FilterData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FilterData(..)")
    }
}

impl FilterData {
    pub(crate) fn new(body: Body) -> Self {
        FilterData(Arc::new(Mutex::new(Some(body))))
    }

    /// Takes the stream; `None` if it was taken before. STDIN, the request's body, comes first on the
    /// wire, so read it to its end before this one.
    pub fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}
