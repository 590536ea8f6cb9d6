//! Calls the service in this process.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, ready};

use http::{Request, Response};

use crate::cause::Cause;
use crate::error_report::About;
use crate::recovery::Mark;
use crate::request::application::{Application, is_ended};
use crate::request::body::Body;
use crate::request::panic_guard::{Foreign, catch};
use crate::request::permits::Arrival;
use crate::request::response::{ResponseBody, stated_length};
use crate::request::service::HttpService;

impl<S: HttpService> Application<S> {
    /// Has the service answer `request`, which is taken, in this process. Every failure becomes a
    /// response. `mark` names the request while the service's code runs.
    ///
    /// The request stays with the caller until the service gets it, because each future it passes through
    /// by value would reserve room for it twice.
    pub(crate) async fn answer_here(
        &self,
        request: &mut Option<Request<Body>>,
        mark: Mark,
    ) -> Response<ResponseBody<S::Content>> {
        let about = request.as_ref().map_or_else(About::unknown, About::request);
        let permit = match self.enter(request.as_ref()) {
            Ok(permit) => permit,
            Err(refused) => return self.page(refused, &about).map(ResponseBody::page),
        };
        let cause = match self.call(request, mark, permit.arrival()).await {
            Ok(mut response) => match stated_length(&mut response, &about) {
                Ok(length) => {
                    return response.map(|body| {
                        let body = Foreign::new(body, mark);
                        ResponseBody::application(body, length, about, permit)
                    });
                }
                Err(why) => Cause::BadResponse(why),
            },
            Err(cause) => cause,
        };
        self.page(cause, &about).map(ResponseBody::page)
    }

    /// Calls the service. `arrival` belongs to the request's body.
    ///
    /// # Errors
    /// The service panicked, or the request was ended because of its body.
    async fn call(
        &self,
        request: &mut Option<Request<Body>>,
        mark: Mark,
        arrival: Option<&Arrival>,
    ) -> Result<Response<S::Content>, Cause> {
        let called = poll_fn(|context| {
            catch(mark, || {
                let mut service = self.service.borrow_mut();
                ready!(service.poll_ready(context)).unwrap_or_else(|error| match error {});
                Poll::Ready(request.take().map(|request| service.call(request)))
            })
            .map_or_else(|message| Poll::Ready(Err(message)), |polled| polled.map(Ok))
        });
        let Some(future) = called.await.map_err(Cause::Panic)? else {
            return Err(Cause::Panic("the service was called twice for one request".to_owned()));
        };
        let mut future = pin!(Foreign::new(future, mark));
        poll_fn(|context| {
            if let Some(cause) = is_ended(arrival, context) {
                return Poll::Ready(Err(cause));
            }
            let response = match future.as_mut().run(|future| future.poll(context)) {
                Ok(polled) => ready!(polled).map_err(|error| match error {}),
                Err(message) => Err(Cause::Panic(message)),
            };
            if let Some(arrival) = arrival {
                arrival.set_answered();
            }
            Poll::Ready(response)
        })
        .await
    }
}
