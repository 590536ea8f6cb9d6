//! What visitors get while a setting is wrong: a 503 that says so, for a program without a page of its own.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower_service::Service;

use crate::config::Configuration;
use crate::unavailable::unavailable;

/// When visitors may come again: mending a setting takes an owner a while.
const RETRY_AFTER: Duration = Duration::from_secs(30);

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
        ready(Ok(unavailable(self.text.clone(), RETRY_AFTER)))
    }
}
