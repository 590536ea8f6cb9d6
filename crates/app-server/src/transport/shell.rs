//! The shell's transport: one request for a request that somebody typed, printed as they read it.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{Request, StatusCode, response};

use crate::error::Error;
use crate::host::NoHost;
use crate::recovery::Recovery;
use crate::request::application::Application;
use crate::request::body::Body;
use crate::request::context::RequestContext;
use crate::request::service::HttpService;
use crate::settings::Settings;
use crate::transport::single::{self, Ended, Input, Output};

/// Lets an application answer one request, on the calling thread, and writes the response to `output`: the
/// status, the headers, an empty line and the body as it comes. Returns the status.
///
/// The body comes from `body`, a file, pipe or terminal that is read to its end; its length is announced
/// with a Content-Length header, if the request has one. What goes wrong meanwhile goes to the log, as with
/// every other transport.
///
/// # Errors
/// When the loop cannot be made, or no whole response could be written.
pub fn request<S: HttpService>(
    service: S,
    request: Request<Option<OwnedFd>>,
    output: OwnedFd,
    settings: Settings,
) -> Result<StatusCode, Error> {
    let application = Application::new(service, settings, Rc::new(NoHost), Recovery::none());
    event_loop::run(answer(application, request, output)).map_err(Error::Loop)?
}

async fn answer<S: HttpService>(
    application: Application<S>,
    request: Request<Option<OwnedFd>>,
    output: OwnedFd,
) -> Result<StatusCode, Error> {
    let settings = &application.settings;
    let output = Output::new(output, true, write_beginning, settings).map_err(Error::Answer)?;
    let (mut head, descriptor) = request.into_parts();
    let length =
        head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let (input, body) = match descriptor {
        Some(descriptor) => {
            let (input, body) = Input::new(descriptor, length, settings).map_err(Error::Body)?;
            (Some(input), body)
        }
        None => (None, Body::empty()),
    };
    head.extensions.insert(RequestContext::default());
    let request = Request::from_parts(head, body);
    match single::run(Rc::new(application), request, input, output.clone()).await {
        Ok(Ended::Complete) => output.status().ok_or(Error::Truncated),
        Ok(Ended::Truncated) => Err(Error::Truncated),
        Err(error) => Err(Error::Answer(error)),
    }
}

/// The head as people read it: `200 OK`, then a line a header.
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
