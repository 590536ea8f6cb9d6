//! The shell's transport: one request from the command line, its response printed for a person to read.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{Request, StatusCode, response};

use crate::cgi_vars::gateway::Gateway;
use crate::error::Error;
use crate::request::application::Application;
use crate::request::body::Body;
use crate::request::service::HttpService;
use crate::transport::single::{self, Ended, Input, Output};

/// Answers one request and writes the response to `output`.
pub(crate) async fn answer<S: HttpService>(
    application: Application<S>,
    request: Request<Option<OwnedFd>>,
    output: OwnedFd,
) -> Result<StatusCode, Error> {
    let settings = &application.settings;
    let output = Output::new(output, true, write_beginning, settings).map_err(Error::Response)?;
    let (head, descriptor) = request.into_parts();
    let length =
        head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let (input, body) = match descriptor {
        Some(descriptor) => {
            let (input, body) = Input::new(descriptor, length, settings).map_err(Error::Body)?;
            (Some(input), body)
        }
        None => (None, Body::empty()),
    };
    let mut request = Request::from_parts(head, body);
    application.classify(&mut request, Gateway::NONE);
    match single::run(Rc::new(application), request, input, output.clone()).await {
        Ok(Ended::Complete) => output.status().ok_or(Error::Truncated),
        Ok(Ended::Truncated) => Err(Error::Truncated),
        Err(error) => Err(Error::Response(error)),
    }
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
