//! What an application may ask about a request: one request extension, [`RequestContext`], on every request.
//! (One and not one a fact: each would be an allocation and a row of the extensions' table.)

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fastcgi_server::{Params, Role};
use http::Extensions;

use crate::cgi_vars::base_path::BasePath;
use crate::cgi_vars::forwarded::Scheme;
use crate::request::body::Body;
use crate::request::part::Part;

/// What the server knows of one request beside the request itself. A request extension: handlers of axum
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
    /// Finds it among a request's extensions. A request that came through no server (in a test, say) has
    /// the default: at the top of its host, by plain HTTP, from nobody.
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

    /// How the visitor reached the web server, or the outermost trusted proxy.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The visitor's address as the web server (or the HTTP connection) tells it, or a proxy of
    /// [`Settings::trusted_proxies`]. `None` over unix sockets where nobody tells one.
    ///
    /// [`Settings::trusted_proxies`]: crate::Settings::trusted_proxies
    pub fn remote_address(&self) -> Option<IpAddr> {
        self.remote_address
    }

    /// What the web server wants of the application (FastCGI 1.0 §6). Only over FastCGI.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// The variables the web server sent. Only over FastCGI and CGI.
    pub fn variables(&self) -> Option<&CgiVariables> {
        self.variables.as_ref()
    }

    /// The passwords among the variables, when there are any. Over HTTP there are none.
    pub fn secrets(&self) -> Option<&Secrets> {
        self.secrets.as_ref()
    }

    /// The file to filter. Only in the filter role.
    pub fn filter_data(&self) -> Option<&FilterData> {
        self.filter_data.as_ref()
    }
}

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

/// The file a filter is to filter (FastCGI 1.0 §6.4): the DATA stream. Only in the filter role.
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

    /// Takes the stream; `None` when it was taken before. STDIN, the request's body, comes first
    /// on the wire: read it to its end before this one.
    pub fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}
