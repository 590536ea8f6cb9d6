//! Requests that a child process answers: for handlers that compute for long, need much memory, or may
//! crash.
//!
//! [`Host::classify`](crate::Host::classify) selects them, and `dispatch.rs` sends them here. An isolated
//! request waits for its permit (`request/process_queue.rs`); then the process forks, and the child, which
//! has the request's head in its memory, calls the same service (`child.rs`). Body and response pass through
//! two pipes in frames (`frames.rs`), which `relay.rs` serves on the parent's side.
//!
//! The end of a response is a frame, not the child's exit: by then, another process may have the pipe
//! open.

mod child;
mod dispatch;
pub(crate) mod frames;
pub(crate) mod relay;

use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::time::{Duration, Instant};

use event_loop::pipe::{self, Reader, Writer};
use event_loop::time;
use http::{Request, Response};
use http_body::Body as HttpBody;
pub use process::Limits;
use process::fork::{self, ForkOptions};
use process::is_short_for_process;

use self::relay::{Relay, Started};
use crate::cause::Cause;
use crate::recovery::Mark;
use crate::request::application::Application;
use crate::request::body::Body;
use crate::request::process_queue::ProcessPermit;
use crate::request::response::{ChildEvent, IsolatedResponse};
use crate::request::service::HttpService;
use crate::settings::Settings;

/// How long to wait before a fork that failed temporarily is retried.
const FORK_AGAIN: Duration = Duration::from_millis(100);

/// How often a request that waits for a permit checks whether a slow body holds one.
const LOOK_FOR_SLOW: Duration = Duration::from_millis(500);

/// Has a child process answer a request.
///
/// # Errors
///
/// Why there is no response, to be reported instead.
pub(crate) async fn answer<S: HttpService>(
    application: &Application<S>,
    limits: Limits,
    request: Option<Request<Body>>,
    mark: Mark,
) -> Result<Response<Relay>, Cause> {
    let Some(request) = request else {
        return Err(Cause::ChildFailed("its request has already been taken".to_owned()));
    };
    let settings = &application.settings;
    let limits = limits.at_least(&min_limits(settings));
    let deadline = time::now() + settings.isolated_wait;
    let Some(permit) = enter(application, deadline).await else {
        return Err(Cause::NoProcess(format!(
            "it waited {} s (isolated_wait) for one of {} processes (max_isolated)",
            settings.isolated_wait.as_secs_f32(),
            settings.max_isolated,
        )));
    };
    let (head, body) = request.into_parts();
    if let Some(arrival) = body.arrival() {
        arrival.set_holds_process();
    }
    let length = (!body.is_end_stream()).then(|| body.size_hint().exact());
    let mut head = Some(head);
    let started = loop {
        let tried = start(limits, |pipes| {
            // Only the child takes the head.
            head.take().map_or(1, |head| child::run(application, head, length, mark, pipes))
        });
        match tried {
            Ok(started) => break started,
            Err(error) if is_short_for_process(&error) && time::now() < deadline => {
                time::sleep(FORK_AGAIN.min(settings.isolated_wait)).await;
            }
            Err(error) if is_short_for_process(&error) => {
                return Err(Cause::NoProcess(format!(
                    "cannot create a process for it within {} s (isolated_wait): {error}",
                    settings.isolated_wait.as_secs_f32(),
                )));
            }
            Err(error) => {
                return Err(Cause::ChildFailed(format!("it cannot run isolated: {error}")));
            }
        }
    };
    let mut relay = Relay::new(started, limits, permit, body);
    match poll_fn(|context| relay.poll_event(context)).await {
        ChildEvent::Head(head) => {
            let (parts, ()) = head.into_parts();
            Ok(Response::from_parts(parts, relay))
        }
        ChildEvent::Failed(cause) => Err(cause),
        ChildEvent::Truncated(message) => Err(Cause::BadResponse(message)),
        ChildEvent::Data(_) | ChildEvent::End => {
            Err(Cause::ChildFailed("its process sent a body without a head".to_owned()))
        }
    }
}

/// Waits for a permit. A request with a slow body gives up its own to one that is waiting.
async fn enter<S>(application: &Application<S>, deadline: Instant) -> Option<ProcessPermit> {
    let mut entering = pin!(application.processes.enter());
    let mut patience = Duration::ZERO;
    loop {
        if let Ok(permit) = time::timeout(patience, entering.as_mut()).await {
            return Some(permit);
        }
        let left = deadline.saturating_duration_since(time::now());
        if left.is_zero() {
            return None;
        }
        application.permits.free_a_process();
        patience = left.min(LOOK_FOR_SLOW);
    }
}

/// The minimum limits of every isolated request.
fn min_limits(settings: &Settings) -> Limits {
    Limits {
        cpu: settings.isolated_cpu,
        wall: settings.isolated_time,
        memory: settings.isolated_memory,
        file_size: settings.isolated_file_size,
    }
}

/// Forks.
fn start(limits: Limits, main: impl FnOnce(child::Pipes) -> u8) -> io::Result<Started> {
    let (body_reader, body_writer) = pipe::ends()?;
    let (response_reader, response_writer) = pipe::ends()?;
    let given = [body_reader.as_raw_fd(), response_writer.as_raw_fd()];
    let pipes = child::Pipes { body: body_reader, response: response_writer };
    let options = ForkOptions { limits: Some(limits), given: &given, captures_output: true };
    let child = fork::fresh(options, || main(pipes))?;
    Ok(Started {
        child,
        body: Writer::from_fd(body_writer)?,
        response: Reader::from_fd(response_reader)?,
    })
}
