//! What an application can learn about a request: one request extension, [`RequestContext`], on every
//! request. It is a single extension because each one costs an allocation and a row in the extension
//! table.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use fastcgi_server::Role;
use http::{Extensions, Request, StatusCode};

use crate::cgi_vars::base_path::BasePath;
use crate::cgi_vars::forwarded::Scheme;
use crate::cgi_vars::gateway::{CgiVariables, Gateway, Secrets};
use crate::error_report::About;
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
    gateway: Gateway,
    pub(crate) part: Part,
    pub(crate) filter_data: Option<FilterData>,
}

impl About {
    /// Takes what is needed from a request that has its context.
    pub(crate) fn request<B>(request: &Request<B>) -> Self {
        About::new(request, RequestContext::of(request.extensions()).base())
    }
}

impl RequestContext {
    /// The context of a request for this part of the program.
    pub(crate) fn new(gateway: Gateway, part: Part) -> RequestContext {
        RequestContext { gateway, part, filter_data: None }
    }

    /// Returns the context from a request's extensions. A request that did not come through a server (in
    /// a test, for example) has the default: mounted at the root of its host, plain HTTP, no client
    /// address.
    pub fn of(extensions: &Extensions) -> &RequestContext {
        static NONE: RequestContext =
            RequestContext { gateway: Gateway::NONE, part: Part::NONE, filter_data: None };
        extensions.get().unwrap_or(&NONE)
    }

    /// Where the site is mounted.
    pub fn base(&self) -> &BasePath {
        &self.gateway.base
    }

    /// How the client reached the web server or the outermost trusted proxy.
    pub fn scheme(&self) -> Scheme {
        self.gateway.scheme
    }

    /// The client's address as reported by the web server (or the HTTP connection), or by a proxy in
    /// [`Settings::trusted_proxies`]. `None` over unix sockets where no address is reported.
    ///
    /// [`Settings::trusted_proxies`]: crate::Settings::trusted_proxies
    pub fn remote_address(&self) -> Option<IpAddr> {
        self.gateway.remote_address
    }

    /// The status with which Apache redirected the request internally (REDIRECT_STATUS): 200 after a
    /// rewrite, that of the failure if this request is for its `ErrorDocument`. Only over FastCGI and CGI.
    pub fn redirect_status(&self) -> Option<StatusCode> {
        self.gateway.redirect_status
    }

    /// The role that the web server requests (FastCGI 1.0 §6). Only over FastCGI.
    pub fn role(&self) -> Option<Role> {
        self.gateway.role
    }

    /// The variables the web server sent. Only over FastCGI and CGI.
    pub fn variables(&self) -> Option<&CgiVariables> {
        self.gateway.variables.as_ref()
    }

    /// The passwords among the variables, if there are any. Never over HTTP.
    pub fn secrets(&self) -> Option<&Secrets> {
        self.gateway.secrets.as_ref()
    }

    /// The file to filter. Only in the filter role.
    pub fn filter_data(&self) -> Option<&FilterData> {
        self.filter_data.as_ref()
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
