//! The handle of a running child: its pipes, waiting for it, killing it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::process::{ExitStatus, Output};
use std::task::{Context, Poll};
use std::time::Duration;

use event_loop::pipe::{Reader, Writer};
use event_loop::signals::Signal;
use event_loop::{Task, time};
use rustix::process::Signal as RawSignal;
use sys::wait::Usage;

use crate::children::{self, Ending, Key, Recipient, unknown_child};
use crate::output::read_to_end;

/// A running child process.
///
/// **Dropping the handle kills the child** (SIGKILL); the loop reaps it in the background. The handle is an id and
/// therefore `Send`, but only works on its own thread: if it is dropped elsewhere, the child runs on until the loop
/// ends.
#[derive(Debug)]
pub struct Child {
    key: Key,
    pid: u32,
    /// The child's standard input, if it is a pipe. Dropping it closes the pipe.
    pub stdin: Option<Writer>,
    /// The child's standard output, if it is a pipe.
    pub stdout: Option<Reader>,
    /// The child's standard error, if it is a pipe. For a forked child ([`fork`](mod@crate::fork)): standard output
    /// and standard error, if they are captured.
    pub stderr: Option<Reader>,
    /// Kills the child at its deadline; dropped with the handle.
    alarm: Option<Task<()>>,
}

impl Child {
    /// Registers a child that has just been started, and returns its handle.
    pub(crate) fn register(pid: u32, recipient: Recipient) -> io::Result<Child> {
        let key = children::insert(pid, recipient)?;
        Ok(Child { key, pid, stdin: None, stdout: None, stderr: None, alarm: None })
    }

    /// Returns the pid. Once the child has been reaped, it may belong to another process.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Waits until the child has exited. Closes its standard input first, because it may wait for end-of-file. Reads
    /// nothing: a child that fills a pipe nothing reads from does not exit.
    ///
    /// Cancel-safe. Further calls return the same status.
    ///
    /// # Errors
    ///
    /// If the child was reaped elsewhere (ECHILD), or does not belong to a loop of this thread.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        poll_fn(|context| self.poll_wait(context)).await
    }

    /// Same as [`wait`](Self::wait), for hand-written futures; standard input stays open.
    ///
    /// # Errors
    ///
    /// Same as [`wait`](Self::wait).
    pub fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        match children::poll_ending(self.key, context) {
            Some(ending) => ending.map(Ending::status),
            None => Poll::Ready(Err(unknown_child())),
        }
    }

    /// Returns the child's exit status, or `None` while it runs. As of the start of the loop's turn.
    ///
    /// # Errors
    ///
    /// Same as [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        children::ending(self.key).unwrap_or_else(|| Err(unknown_child()))
    }

    /// Reads standard output and standard error to their ends, as far as they are pipes, and waits until the child
    /// has exited.
    ///
    /// # Errors
    ///
    /// Same as [`wait`](Self::wait); `FileTooLarge` if one of the two is longer than `limit` bytes, and the child is
    /// killed.
    pub async fn wait_with_output(mut self, limit: usize) -> io::Result<Output> {
        self.stdin = None;
        let stdout = read_to_end(self.stdout.take(), limit);
        let stderr = read_to_end(self.stderr.take(), limit);
        let (stdout, stderr) = both(pin!(stdout), pin!(stderr)).await?;
        let status = self.wait().await?;
        Ok(Output { status, stdout, stderr })
    }

    /// Kills the child (SIGKILL). Does nothing if it has already exited.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the child runs as another user by now. Also if it does not belong to a loop of this
    /// thread.
    pub fn kill(&mut self) -> io::Result<()> {
        self.send(RawSignal::KILL)
    }

    /// Sends the child a signal. Does nothing if it has already exited.
    ///
    /// # Errors
    ///
    /// Same as [`kill`](Self::kill).
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let signal = RawSignal::from_named_raw(signal.number());
        self.send(signal.ok_or(io::ErrorKind::InvalidInput)?)
    }

    /// Returns whether the child was killed at its deadline. As of the start of the loop's turn.
    pub fn timed_out(&self) -> bool {
        children::has_expired(self.key)
    }

    /// Returns the resources that the child has used; zero until it has been reaped.
    pub fn usage(&self) -> Usage {
        children::usage(self.key)
    }

    /// Starts the task that kills the child at its deadline, whether or not anything waits for it.
    pub(crate) fn expire_after(&mut self, deadline: Duration) {
        let key = self.key;
        self.alarm = Some(event_loop::spawn(async move {
            time::sleep(deadline).await;
            children::expire(key);
        }));
    }

    fn send(&mut self, signal: RawSignal) -> io::Result<()> {
        children::send(self.key, signal)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        children::abandon(self.key);
    }
}

/// Waits for both futures, or until one fails.
async fn both<T, E>(
    mut one: Pin<&mut impl Future<Output = Result<T, E>>>,
    mut other: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> Result<(T, T), E> {
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(result) = one.as_mut().poll(context)
        {
            first = Some(result?);
        }
        if second.is_none()
            && let Poll::Ready(result) = other.as_mut().poll(context)
        {
            second = Some(result?);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready(Ok((first, second))),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}
