//! Decides where a request is answered: in this process, or isolated in a child process.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use http::{Request, Response};

use crate::error_report::About;
use crate::isolation::{self, Limits};
use crate::recovery::Mark;
use crate::request::application::{Application, is_ended};
use crate::request::body::Body;
use crate::request::context::RequestContext;
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
        let isolation = |request: &Request<Body>| {
            let context = RequestContext::of(request.extensions());
            let limits = context.part.limits()?;
            // A filter's second body cannot be passed to another process, and no web server sends one.
            context.filter_data().is_none().then_some(limits)
        };
        match request.as_ref().and_then(isolation) {
            None => self.answer_here(request, mark).await,
            // Boxed, so that inline requests do not pay for the size of this future.
            Some(limits) => Box::pin(self.answer_isolated(limits, request, mark)).await,
        }
    }

    /// Has the service answer a request in a process of its own.
    async fn answer_isolated(
        &self,
        limits: Limits,
        request: &mut Option<Request<Body>>,
        mark: Mark,
    ) -> Response<ResponseBody<S::Content>> {
        let about = request.as_ref().map_or_else(About::unknown, About::request);
        let permit = match self.enter(request.as_ref()) {
            Ok(permit) => permit,
            Err(refused) => return self.page(refused, &about).map(ResponseBody::page),
        };
        let mut answer = pin!(isolation::answer(self, limits, request.take(), mark));
        let answered = poll_fn(|context| match is_ended(permit.arrival(), context) {
            Some(cause) => Poll::Ready(Err(cause)),
            None => answer.as_mut().poll(context),
        });
        match answered.await {
            Ok(response) => {
                if let Some(arrival) = permit.arrival() {
                    arrival.set_answered();
                }
                response.map(|relay| ResponseBody::isolated(relay, about, permit))
            }
            Err(cause) => self.page(cause, &about).map(ResponseBody::page),
        }
    }
}
