//! The parent's side of an isolated request: sends the body (in a task), receives the response
//! ([`Relay`]), forwards what the child prints, and interprets the child's exit.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use event_loop::Task;
use event_loop::pipe::{Reader, Writer};
use event_loop::time::{self, Sleep};
use http_body::Body as HttpBody;
use process::Child;
use process::{Failure, Limits, output};

use crate::cause::Cause;
use crate::isolation::frames::{Frames, PipeFrame};
use crate::request::body::Body;
use crate::request::process_queue::ProcessPermit;
use crate::request::response::{ChildEvent, IsolatedResponse};

/// How long a child that has sent everything may take to exit before it is killed, and how long one that
/// is dying may take to be gone.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// A started child, and our ends of its pipes.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) body: Writer,
    pub(crate) response: Reader,
}

/// What both tasks of a request share.
#[derive(Default)]
struct SharedWithBody {
    /// Whether the body is waiting for the client, which does not count as the child's time.
    is_waiting_for_client: Cell<bool>,
    /// Woken when that changes.
    relay: RefCell<Option<Waker>>,
}

impl SharedWithBody {
    fn set_is_waiting_for_client(&self, waits: bool) {
        if self.is_waiting_for_client.replace(waits) != waits {
            let relay = self.relay.borrow_mut().take();
            if let Some(relay) = relay {
                relay.wake();
            }
        }
    }
}

/// Sends the request's body to the child. Returns only on failure: closing the pipe tells the child that
/// its response is no longer wanted.
async fn send_body(mut body: Body, mut pipe: Writer, shared: Rc<SharedWithBody>) {
    loop {
        let piece = poll_fn(|context| {
            let polled = Pin::new(&mut body).poll_frame(context);
            shared.set_is_waiting_for_client(polled.is_pending());
            polled
        });
        let (frame, is_last) = match piece.await {
            Some(Ok(piece)) => match piece.into_data() {
                Ok(data) => (PipeFrame::Data(data), false),
                Err(_) => continue,
            },
            Some(Err(error)) => (PipeFrame::Failed(error.to_string()), true),
            None => (PipeFrame::End, true),
        };
        match frame.write(&mut pipe).await {
            Ok(()) if is_last => break,
            Ok(()) => {}
            // The child does not want more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => {
                tracing::error!("Cannot send a request body to its isolated process: {error}.");
                // Otherwise the child would wait for the rest.
                return;
            }
        }
    }
    drop(body);
    let _open = pipe;
    std::future::pending().await
}

/// The response of a child process, as it arrives. Dropping it kills the child, unless the response is
/// complete.
pub(crate) struct Relay {
    state: RelayState,
    response: Reader,
    frames: Frames,
    limits: Limits,
    clock: ChildClock,
    shared: Rc<SharedWithBody>,
    /// Remaining bytes of the body, if the child has announced its length.
    left: Option<u64>,
}

enum RelayState {
    Answering(Running),
    /// The response was cut short; the cause is being determined.
    Dying(Pin<Box<dyn Future<Output = Cause>>>),
    Over,
}

/// Everything that ends with the child.
struct Running {
    child: Child,
    /// Yields whether the child ran out of memory.
    printed: Task<bool>,
    _body: Task<()>,
    _permit: ProcessPermit,
}

impl Relay {
    pub(crate) fn new(started: Started, limits: Limits, permit: ProcessPermit, body: Body) -> Self {
        let Started { mut child, body: pipe, response } = started;
        let shared = Rc::<SharedWithBody>::default();
        let stderr = child.stderr.take();
        let printed = event_loop::spawn(output::pass_on(stderr, output::to_stderr));
        let body = event_loop::spawn(send_body(body, pipe, shared.clone()));
        Relay {
            state: RelayState::Answering(Running { child, printed, _body: body, _permit: permit }),
            response,
            frames: Frames::default(),
            limits,
            clock: ChildClock { left: limits.wall, running: None },
            shared,
            left: None,
        }
    }

    /// Ready when the child has taken too long; time spent waiting for the client does not count.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        *self.shared.relay.borrow_mut() = Some(context.waker().clone());
        if self.shared.is_waiting_for_client.get() {
            self.clock.stop();
            return Poll::Pending;
        }
        self.clock.poll_over(context)
    }

    fn take(&mut self, frame: PipeFrame) -> ChildEvent {
        self.clock.stop();
        match frame {
            PipeFrame::Head { response, exact, is_all } => {
                self.left = exact;
                if is_all {
                    self.let_go();
                }
                ChildEvent::Head(response)
            }
            PipeFrame::Data(data) => {
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                ChildEvent::Data(data)
            }
            PipeFrame::End => {
                self.let_go();
                ChildEvent::End
            }
            PipeFrame::Failed(message) => {
                self.let_go();
                ChildEvent::Truncated(message)
            }
        }
    }

    /// The child has sent everything: lets it exit on its own.
    fn let_go(&mut self) {
        let RelayState::Answering(mut running) =
            std::mem::replace(&mut self.state, RelayState::Over)
        else {
            return;
        };
        let leaving = async move {
            let _ = time::timeout(EXIT_PATIENCE, running.child.wait()).await;
            // Its last output; the pipe closes with the last process of the child's group.
            let _ = time::timeout(EXIT_PATIENCE, &mut running.printed).await;
        };
        event_loop::spawn(leaving).detach();
    }

    /// The response has stopped: the child is dead, or about to be.
    fn find_out(&mut self) {
        let RelayState::Answering(mut running) =
            std::mem::replace(&mut self.state, RelayState::Over)
        else {
            return;
        };
        let limits = self.limits;
        self.state = RelayState::Dying(Box::pin(async move {
            let Ok(ending) = time::timeout(EXIT_PATIENCE, running.child.wait()).await else {
                return Cause::ChildFailed(
                    "its process stopped in the middle of the response".to_owned(),
                );
            };
            let usage = running.child.usage();
            let printed = time::timeout(EXIT_PATIENCE, &mut running.printed).await;
            let failure = Failure::of(ending, usage, &limits, printed == Ok(true));
            let text = explain(&failure, usage.cpu);
            match failure {
                Failure::CpuTime(_) => Cause::ChildTooSlow(text),
                _ => Cause::ChildFailed(text),
            }
        }));
    }

    fn explain(&self, failure: &Failure) -> String {
        explain(failure, Duration::ZERO)
    }
}

impl IsolatedResponse for Relay {
    fn left(&self) -> Option<u64> {
        match self.state {
            RelayState::Over => Some(0),
            _ => self.left,
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<ChildEvent> {
        loop {
            match &mut self.state {
                RelayState::Over => return Poll::Ready(ChildEvent::End),
                RelayState::Dying(why) => {
                    let cause = ready!(why.as_mut().poll(context));
                    self.state = RelayState::Over;
                    return Poll::Ready(ChildEvent::Failed(cause));
                }
                RelayState::Answering(_) => {}
            }
            match self.frames.next() {
                Ok(Some(frame)) => return Poll::Ready(self.take(frame)),
                Ok(None) => {}
                Err(why) => {
                    // Dropping the state kills the child.
                    self.state = RelayState::Over;
                    return Poll::Ready(ChildEvent::Failed(Cause::ChildFailed(why.to_owned())));
                }
            }
            match self.response.poll_read_into(context, self.frames.buffer()) {
                Poll::Ready(Ok(1..)) => self.clock.stop(),
                Poll::Ready(Ok(0)) => self.find_out(),
                Poll::Ready(Err(error)) => {
                    tracing::error!("Cannot read the response of an isolated process: {error}.");
                    self.find_out();
                }
                Poll::Pending => {
                    ready!(self.poll_patience(context));
                    self.state = RelayState::Over;
                    let text = self.explain(&Failure::WallTime(self.limits.wall));
                    return Poll::Ready(ChildEvent::Failed(Cause::ChildTooSlow(text)));
                }
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The receiver may have read everything without polling for the end. Otherwise, dropping the
        // state kills the child.
        if self.left == Some(0) {
            self.let_go();
        }
    }
}

/// Says what happened to a child, and which setting would have allowed it to continue.
fn explain(failure: &Failure, cpu: Duration) -> String {
    let setting = match failure {
        Failure::CpuTime(_) => "isolated_cpu",
        Failure::WallTime(_) => "isolated_time",
        Failure::Memory(_) => "isolated_memory",
        Failure::FileSize(_) => "isolated_file_size",
        _ if cpu.is_zero() => return format!("its isolated process failed: {failure}"),
        _ => {
            return format!(
                "its isolated process failed after {:.1} s of processor time: {failure}",
                cpu.as_secs_f32()
            );
        }
    };
    format!("its isolated process was killed: {failure}; {setting} raises that limit")
}

/// A clock that runs only while the child is the one to act.
struct ChildClock {
    left: Duration,
    running: Option<(Instant, Sleep)>,
}

impl ChildClock {
    fn stop(&mut self) {
        if let Some((since, _)) = self.running.take() {
            self.left = self.left.saturating_sub(time::now().saturating_duration_since(since));
        }
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let (_, sleep) = self.running.get_or_insert_with(|| (time::now(), time::sleep(left)));
        Pin::new(sleep).poll(context)
    }
}
