//! The shell's transport: one request from the command line, its response printed for a person to read.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use fastcgi_server::{Params, Role};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, StatusCode, response};

use crate::cause::Cause;
use crate::cgi_vars::cgi_to_http::{self, Head};
use crate::cgi_vars::gateway::Gateway;
use crate::error::Error;
use crate::error_report::About;
use crate::request::application::Application;
use crate::request::body::Body;
use crate::request::service::HttpService;
use crate::transport::respond::ResponseSink;
use crate::transport::single::{self, Ended, Input, Output};

/// Answers one request and writes the response to `output`.
pub(crate) async fn answer<S: HttpService>(
    application: Application<S>,
    request: Request<Option<OwnedFd>>,
    output: OwnedFd,
) -> Result<StatusCode, Error> {
    let (head, body) = request.into_parts();
    let length =
        head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut request = Request::from_parts(head, ());
    application.classify(&mut request, Gateway::NONE);
    respond(application, request, body.map(|body| (body, length)), output).await
}

/// Answers one request as a web server describes it, with a role over FastCGI and without one over CGI.
pub(crate) async fn answer_variables<S: HttpService>(
    application: Application<S>,
    variables: Params,
    role: Option<Role>,
    body: Option<OwnedFd>,
    output: OwnedFd,
) -> Result<StatusCode, Error> {
    match cgi_to_http::head(variables, role, application.settings.of_variables()) {
        Ok(Head { mut request, gateway, content_length }) => {
            application.classify(&mut request, gateway);
            let body = body.map(|body| (body, content_length));
            respond(application, request, body, output).await
        }
        Err(why) => {
            let output = new_output(&application, output)?;
            let page = application.page(Cause::BadRequest(why), &About::unknown());
            output.page(&Method::GET, page);
            poll_fn(|context| output.poll_send(context)).await.map_err(Error::Response)?;
            output.status().ok_or(Error::Truncated)
        }
    }
}

/// Answers a request with this body and its length, if it is known.
async fn respond<S: HttpService>(
    application: Application<S>,
    request: Request<()>,
    body: Option<(OwnedFd, Option<u64>)>,
    output: OwnedFd,
) -> Result<StatusCode, Error> {
    let output = new_output(&application, output)?;
    let (input, body) = match body {
        Some((descriptor, length)) => {
            let input = Input::new(descriptor, length, &application.settings);
            let (input, body) = input.map_err(Error::Body)?;
            (Some(input), body)
        }
        None => (None, Body::empty()),
    };
    let request = request.map(|()| body);
    match single::run(Rc::new(application), request, input, output.clone()).await {
        Ok(Ended::Complete) => output.status().ok_or(Error::Truncated),
        Ok(Ended::Truncated) => Err(Error::Truncated),
        Err(error) => Err(Error::Response(error)),
    }
}

fn new_output<S>(application: &Application<S>, output: OwnedFd) -> Result<Rc<Output>, Error> {
    Output::new(output, true, write_beginning, &application.settings).map_err(Error::Response)
}

/// Writes the head for a person to read: `200 OK`, then one line per header.
fn write_beginning(
    head: &response::Parts,
    length: Option<u64>,
    first: Bytes,
    output: &mut BytesMut,
) -> Option<Bytes> {
    output.put_slice(format!("{}\n", head.status).as_bytes());
    for (name, value) in &head.headers {
        output.put_slice(name.as_str().as_bytes());
        output.put_slice(b": ");
        output.put_slice(value.as_bytes());
        output.put_u8(b'\n');
    }
    if let Some(length) = length {
        output.put_slice(format!("{CONTENT_LENGTH}: {length}\n").as_bytes());
    }
    output.put_u8(b'\n');
    Some(first)
}
