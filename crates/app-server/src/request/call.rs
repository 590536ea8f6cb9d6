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
use crate::request::response::stated_length;
use crate::request::service::{HttpResponse, HttpService, NeverFails};

impl<S: HttpService> Application<S> {
    /// Has the service answer `request`, which is taken, in this process. Returns the response, with the
    /// length its body must have, if it states one. `mark` names the request while the service's code
    /// runs; `arrival` belongs to the request's body.
    ///
    /// # Errors
    ///
    /// The service panicked, its response cannot be sent, or the request was ended because of its body.
    pub(crate) async fn answer_here(
        &self,
        request: &mut Option<Request<Body>>,
        mark: Mark,
        arrival: Option<&Arrival>,
        about: &About,
    ) -> Result<(Response<Foreign<S::Content>>, Option<u64>), Cause> {
        let mut response = self.call(request, mark, arrival).await?;
        let length = stated_length(&mut response, about).map_err(Cause::BadResponse)?;
        Ok((response.map(|body| Foreign::new(body, mark)), length))
    }

    /// Calls the service.
    async fn call(
        &self,
        request: &mut Option<Request<Body>>,
        mark: Mark,
        arrival: Option<&Arrival>,
    ) -> Result<Response<S::Content>, Cause> {
        let called = poll_fn(|context| {
            catch(mark, || {
                let mut service = self.service.borrow_mut();
                ready!(service.poll_ready(context)).unwrap_or_else(|error| match error.never() {});
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
                Ok(polled) => match ready!(polled) {
                    Ok(response) => Ok(response.into_http()),
                    Err(error) => match error.never() {},
                },
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
