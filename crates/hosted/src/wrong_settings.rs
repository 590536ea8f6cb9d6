//! What visitors get while a setting is wrong: a 503 that says so, for a program without a page of its own.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use tower_service::Service;

use crate::config::Configuration;

/// Answers every request.
#[derive(Clone, Debug)]
pub(crate) struct WrongSettings {
    text: Bytes,
}

impl WrongSettings {
    pub(crate) fn of<O>(configuration: &Configuration<O>) -> Self {
        let mut text = "This site is being set up: a setting is wrong. ".to_owned();
        if configuration.settings.show_configuration_errors {
            text += "This is what the owner has to change:\n";
            for problem in &configuration.problems {
                text += &format!("{problem}\n");
            }
        } else {
            text += "The owner can find the cause in the log.\n";
        }
        WrongSettings { text: text.into() }
    }
}

impl<B> Service<Request<B>> for WrongSettings {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(Full::from(self.text.clone()));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, text);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("30"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        ready(Ok(response))
    }
}
