//! Decides where a request is answered: in this process, or isolated in a child process.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, RETRY_AFTER, UPGRADE, VARY};
use http::{HeaderMap, Request, Response};

use crate::cause::{Cause, Failed};
use crate::error_report::About;
use crate::isolation::relay::Relay;
use crate::isolation::{self, Limits};
use crate::recovery::Mark;
use crate::request::application::{Application, InFlight, is_ended};
use crate::request::body::Body;
use crate::request::context::RequestContext;
use crate::request::panic_guard::Foreign;
use crate::request::permits::Arrival;
use crate::request::response::ResponseBody;
use crate::request::service::HttpService;

impl<S: HttpService> Application<S> {
    /// Has the service answer `request`, which is taken, here or in a process of its own. Every failure
    /// becomes a response. `mark` names the request while the service's code runs.
    ///
    /// The request stays with the caller until the service gets it, because each future it passes through
    /// by value would reserve room for it twice.
    pub(crate) async fn answer(
        &self,
        request: &mut Option<Request<Body>>,
        mark: Mark,
    ) -> Response<ResponseBody<S::Content>> {
        let (about, limits, entered) = self.admit(request.as_ref());
        let permit = match entered {
            Ok(permit) => permit,
            Err(refused) => return self.page(refused, &about).map(ResponseBody::page),
        };
        let answered = match limits {
            None => match self.answer_here(request, mark, permit.arrival(), &about).await {
                Ok((mut response, length)) => {
                    let failed = response.extensions_mut().remove::<Failed>();
                    if let Some(failed) = failed
                        && let Some(page) = self.explain(failed, &mut response, &about)
                    {
                        return response.map(|_| ResponseBody::page(page));
                    }
                    return response
                        .map(|body| ResponseBody::application(body, length, about, permit));
                }
                Err(cause) => Err(cause),
            },
            // Boxed, so that inline requests do not pay for the size of this future.
            Some(limits) => {
                Box::pin(self.answer_isolated(limits, request, mark, permit.arrival())).await
            }
        };
        match answered {
            Ok(response) => response.map(|relay| ResponseBody::isolated(relay, about, permit)),
            Err(cause) => self.page(cause, &about).map(ResponseBody::page),
        }
    }

    /// Reports what the application has failed with. Returns a page for the response, unless a layer has made one.
    #[cold]
    fn explain(
        &self,
        failed: Failed,
        response: &mut Response<Foreign<S::Content>>,
        about: &About,
    ) -> Option<Bytes> {
        let mut page = self.page(Cause::Failed(failed), about);
        // A body of unknown length may be an empty one that a layer has wrapped.
        if response.body().size_hint().lower() > 0 {
            return None;
        }
        *response.status_mut() = page.status();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        if headers.contains_key(RETRY_AFTER) {
            page.headers_mut().remove(RETRY_AFTER);
        }
        // Both depend on what they say, the response and the page.
        let varies = page.headers_mut().remove(VARY);
        headers.extend(std::mem::take(page.headers_mut()));
        if let Some(varies) = varies {
            headers.append(VARY, varies);
        }
        Some(page.into_body())
    }

    /// Describes a request for reports, returns the limits of an isolated one, and counts it as started.
    fn admit(
        &self,
        request: Option<&Request<Body>>,
    ) -> (About, Option<Limits>, Result<InFlight, Cause>) {
        let Some(request) = request else {
            return (About::unknown(), None, self.enter(&RequestContext::default(), None));
        };
        let context = RequestContext::of(request.extensions());
        // A filter's second body cannot be passed to another process, and no web server sends one.
        let limits = context.part.limits().filter(|_| context.filter_data().is_none());
        let entered = match asks_for_a_websocket(request.headers()) {
            true => Err(Cause::WebSocket),
            false => self.enter(context, request.body().arrival()),
        };
        (About::new(request, context.base()), limits, entered)
    }

    /// Has the service answer a request in a process of its own. `arrival` belongs to the request's body.
    ///
    /// # Errors
    ///
    /// The process failed, or the request was ended because of its body.
    async fn answer_isolated(
        &self,
        limits: Limits,
        request: &mut Option<Request<Body>>,
        mark: Mark,
        arrival: Option<&Arrival>,
    ) -> Result<Response<Relay>, Cause> {
        let mut answer = pin!(isolation::answer(self, limits, request.take(), mark));
        let response = poll_fn(|context| match is_ended(arrival, context) {
            Some(cause) => Poll::Ready(Err(cause)),
            None => answer.as_mut().poll(context),
        })
        .await?;
        if let Some(arrival) = arrival {
            arrival.set_answered();
        }
        Ok(response)
    }
}

/// Browsers ask for one with GET (RFC 6455 §4.1). FastCGI and CGI have no way to switch protocols, and the application would
/// only respond that something is missing.
fn asks_for_a_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
