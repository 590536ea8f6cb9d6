//! CGI (RFC 3875): the single request of a process that the web server started for it.
//!
//! Variables come from the environment, the body from descriptor 0; the response goes to descriptor 1.
//! Everything in between is shared with FastCGI: `cgi_to_http.rs`, `respond.rs`, `http_to_cgi.rs`.
//! Nothing is opened or waited for that this request does not need.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use fastcgi_server::Params;
use http::{Method, Request};
use process::descriptors;

use crate::cause::Cause;
use crate::cgi_vars::cgi_to_http::{self, Head};
use crate::error::Error;
use crate::error_report::About;
use crate::request::application::Application;
use crate::request::body::Body;
use crate::request::service::HttpService;
use crate::transport::respond::{ResponseSink, write_beginning};
use crate::transport::single::{self, Ended, Input, Output};

/// Answers the request in the environment.
///
/// # Errors
///
/// When the response was not sent in full.
pub(crate) async fn serve<S: HttpService>(application: Rc<Application<S>>) -> Result<(), Error> {
    let output = take_standard_output(&application).map_err(Error::Response)?;
    let ended = match request(&application) {
        Ok((request, input)) => single::run(application, request, input, output).await,
        Err(why) => {
            let page = application.page(Cause::BadRequest(why), &About::unknown());
            output.page(&Method::GET, page);
            std::future::poll_fn(|context| output.poll_send(context))
                .await
                .map(|()| Ended::Complete)
        }
    };
    match ended {
        Ok(Ended::Complete) => Ok(()),
        Ok(Ended::Truncated) => Err(Error::Truncated),
        Err(error) => Err(Error::Response(error)),
    }
}

/// Descriptor 1 as the web server gave it, once it is reserved.
static RESPONSE: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Reserves descriptor 1 for the response over CGI. From then on standard output is standard error, so that a stray
/// `println!` does not end up in the response. The server does so when it starts; call it before, if something may be printed
/// while a service is made.
///
/// # Errors
///
/// If descriptors are short.
pub fn reserve_standard_output() -> io::Result<()> {
    let mut response = RESPONSE.lock().unwrap_or_else(PoisonError::into_inner);
    if response.is_none() {
        let own = io::stdout().as_fd().try_clone_to_owned()?;
        descriptors::redirect_output(io::stderr().as_fd())?;
        *response = Some(own);
    }
    Ok(())
}

/// Takes what was descriptor 1 for the response.
fn take_standard_output<S>(application: &Application<S>) -> io::Result<Rc<Output>> {
    reserve_standard_output()?;
    let response = RESPONSE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let response = response.ok_or(io::ErrorKind::NotFound)?;
    Output::new(response, false, write_beginning, &application.settings)
}

/// Builds the request from the environment and descriptor 0.
///
/// # Errors
///
/// One sentence on what is malformed.
fn request<S>(application: &Application<S>) -> Result<(Request<Body>, Option<Input>), String> {
    let environment: Vec<_> = std::env::vars_os().collect();
    let pairs = environment.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let params = Params::from_pairs(pairs);
    let secret = application.settings.secret_variables;
    for (name, _) in &environment {
        if name == HTTP_PROXY || cgi_to_http::is_secret_variable(name.as_bytes(), secret) {
            // Fails only if another thread interferes, and there is none.
            descriptors::forget_variable(name).map_err(|error| error.to_string())?;
        }
    }
    let length_comes_with_the_end = body_ends_with_input(&params);
    let Head { mut request, gateway, content_length } =
        cgi_to_http::head(params, None, application.settings.of_variables())?;
    application.classify(&mut request, gateway);
    if content_length.unwrap_or(0) == 0 && !length_comes_with_the_end {
        return Ok((request.map(|()| Body::empty()), None));
    }
    let (input, body) = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|descriptor| Input::new(descriptor, content_length, &application.settings))
        .map_err(|error| format!("cannot read the request body: {error}"))?;
    Ok((request.map(|()| body), Some(input)))
}

/// Rule: a client's Proxy header must not become the proxy of what a tool starts or fetches (httpoxy),
/// but over CGI it is in the process's own environment. So are passwords set with SetEnv, which child
/// processes must not inherit.
const HTTP_PROXY: &str = "HTTP_PROXY";

/// Rule: without CONTENT_LENGTH there is no body (RFC 3875 §4.2), and reading to the end would hang where
/// the web server leaves descriptor 0 open. Exception: a chunked body, for which Apache sends no
/// CONTENT_LENGTH and caddy -1; both close the descriptor.
fn body_ends_with_input(params: &Params) -> bool {
    match params.get(b"CONTENT_LENGTH") {
        None | Some(b"") => params.get(b"HTTP_TRANSFER_ENCODING").is_some(),
        length => length == Some(b"-1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_without_length() {
        for (variables, expected) in [
            (&[][..], false),
            (&[("CONTENT_LENGTH", "")], false),
            (&[("CONTENT_LENGTH", "5")], false),
            (&[("CONTENT_LENGTH", "-1")], true),
            (&[("HTTP_TRANSFER_ENCODING", "chunked")], true),
            (&[("HTTP_TRANSFER_ENCODING", "chunked"), ("CONTENT_LENGTH", "5")], false),
        ] {
            let pairs = variables.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            assert_eq!(body_ends_with_input(&Params::from_pairs(pairs)), expected, "{variables:?}");
        }
    }
}
