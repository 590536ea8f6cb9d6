//! A service whose making has failed, behind a web server: visitors get a 503, and it is made again when they come.
//!
//! If the process exited instead, the web server would only start it again, and visitors would see a bare "500": a database
//! that is down for a minute would look like a broken program.

use std::any::Any;
use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use app_server::{Body, HttpResponse, NeverFails};
use bytes::{Buf, Bytes};
use event_loop::time;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tower_service::Service;

use crate::app::{App, Start};
use crate::report::Failure;
use crate::unavailable::unavailable;

/// The minimum time between a failed attempt and the next.
const PAUSE: Duration = Duration::from_secs(5);

const TEXT: &str = "This site cannot be reached at the moment. Please try again in a few seconds; its owner can find the \
                    cause in the log.\n";

/// How long making it may take: less than web servers wait for a process they have started (mod_fcgid 40 s).
const MAX_TIME: Duration = Duration::from_secs(30);

/// Same as [`make`], behind a web server: a program that waits for ever for its database has failed, too.
///
/// # Errors
///
/// As [`make`]; also if it takes too long.
pub(crate) async fn make_in_time<A: App>(
    app: &A,
    start: Start<A::Own>,
) -> Result<A::Service, Failure> {
    let too_slow = |_| Err(not_made(format!("it took longer than {} s", MAX_TIME.as_secs())));
    time::timeout(MAX_TIME, make(app, start)).await.unwrap_or_else(too_slow)
}

/// Makes the program's service.
///
/// # Errors
///
/// Why it cannot be made; also if the program panics.
pub(crate) async fn make<A: App>(app: &A, start: Start<A::Own>) -> Result<A::Service, Failure> {
    let mut made = pin!(app.service(start));
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| made.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(not_made(text_of(&*panic)))))
    })
    .await
}

/// The failure to make a service, for this reason. Its alternate form: from `anyhow` and `eyre`, that is the reason with all
/// its causes, on one line.
pub(crate) fn not_made(reason: impl fmt::Display) -> Failure {
    let reason = format!("{reason:#}");
    let cure = cure_of(&reason);
    Failure::refused(format!("The application could not be made: {reason}{cure}."))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.unwrap_or_default())
}

/// Returns what to do about errors and panics that only happen in a program of ours or on a host.
fn cure_of(message: &str) -> &'static str {
    /// What `init` of tracing-subscriber and `set_global_default` say.
    const TWO_LOGS: [&str; 2] = ["global default", "global subscriber"];
    if TWO_LOGS.iter().any(|text| message.contains(text)) {
        ". There is a log already, the program's own: remove what sets up another (docs/porting-an-app.md)"
    } else {
        app_server::cure_of(message)
    }
}

/// A service that could not be made yet.
pub(crate) struct LateService<A: App> {
    app: Rc<A>,
    start: Start<A::Own>,
    state: Rc<RefCell<State<A::Service>>>,
}

enum State<S> {
    Failed(Instant),
    Making,
    Made(S),
}

impl<A: App> LateService<A> {
    /// A service that failed just now.
    pub(crate) fn new(app: Rc<A>, start: Start<A::Own>, failure: &Failure) -> Self {
        LateService { app, start, state: Rc::new(RefCell::new(failed(failure))) }
    }
}

fn failed<S>(failure: &Failure) -> State<S> {
    for message in failure.messages() {
        tracing::error!(
            "Visitors get a 503: {message} The first visitor after {} s starts another attempt.",
            PAUSE.as_secs()
        );
    }
    State::Failed(time::now())
}

impl<A: App> LateService<A> {
    /// Starts another attempt. The visitor who triggers it does not wait: it may take long, and a visitor who leaves must not
    /// cancel it.
    fn try_again(&self) {
        self.state.replace(State::Making);
        let (app, start, state) =
            (Rc::clone(&self.app), self.start.clone(), Rc::clone(&self.state));
        event_loop::spawn(async move {
            let made = make_in_time(&*app, start).await;
            state.replace(match made {
                Ok(service) => {
                    tracing::info!("The application is available again.");
                    State::Made(service)
                }
                Err(failure) => failed(&failure),
            });
        })
        .detach();
    }
}

/// A body of the service's, or ours.
type AnyBody = Pin<Box<dyn HttpBody<Data = Bytes, Error = String>>>;

fn any<B: HttpBody<Error: fmt::Display> + 'static>(body: B) -> AnyBody {
    let in_bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
    let body = body.map_frame(move |frame| frame.map_data(in_bytes));
    Box::pin(body.map_err(|error| error.to_string()))
}

impl<A: App> Service<Request<Body>> for LateService<A> {
    type Response = Response<AnyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match &mut *self.state.borrow_mut() {
            State::Made(service) => service.poll_ready(context).map_err(NeverFails::never),
            State::Making | State::Failed(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_due = match &mut *self.state.borrow_mut() {
            State::Made(service) => {
                let answer = service.call(request);
                return Box::pin(async {
                    Ok(answer.await.map_err(NeverFails::never)?.into_http().map(any))
                });
            }
            State::Making => false,
            State::Failed(at) => time::now() >= *at + PAUSE,
        };
        if is_due {
            self.try_again();
        }
        let response = unavailable(TEXT, PAUSE).map(any);
        Box::pin(async { Ok(response) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_with_its_causes() {
        struct WithCauses;
        impl fmt::Display for WithCauses {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let causes = if formatter.alternate() { ": connection refused" } else { "" };
                write!(formatter, "no database{causes}")
            }
        }
        let said = not_made(WithCauses);
        assert_eq!(
            said.messages(),
            ["The application could not be made: no database: connection refused."]
        );
    }

    /// What sqlx says of SQLite where threads are refused.
    #[test]
    fn a_thread_that_is_refused_is_said_to_be_one() {
        let refused = std::io::Error::from(rustix::io::Errno::AGAIN);
        let failure = not_made(format!("error communicating with database: {refused}"));
        let said = &failure.messages()[0];
        assert!(said.contains("a thread that the host refuses"), "{said}");
    }

    #[test]
    fn an_application_that_sets_up_a_second_log_is_told_so() {
        let log = || tracing_subscriber::fmt().with_writer(std::io::sink);
        let _ = log().try_init();
        let panic = catch_unwind(|| log().init()).unwrap_err();
        let failure = not_made(text_of(&*panic));
        let said = &failure.messages()[0];
        assert!(said.contains("remove what sets up another"), "{said}");
        let panic = catch_unwind(|| panic!("no such thing")).unwrap_err();
        assert_eq!(text_of(&*panic), "it panicked: no such thing");
    }
}
