//! The handle of a running child: its pipes, its end, its kill.

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
/// **Dropping it kills it** (SIGKILL); the loop reaps it in the background. `Send`, for it is an id; of use
/// on its own thread alone: dropped elsewhere, the child goes on until the loop ends.
#[derive(Debug)]
pub struct Child {
    key: Key,
    number: u32,
    /// What the child reads, if that was asked to be a pipe. Dropping it is the end of the child's input.
    pub stdin: Option<Writer>,
    /// What the child writes, if that was asked to be a pipe.
    pub stdout: Option<Reader>,
    /// The child's error messages, if they were asked to go to a pipe. Of a child without a program
    /// ([`fork`](mod@crate::fork)): all that it prints, if that was asked to come to us.
    pub stderr: Option<Reader>,
    /// Kills the child at its deadline; dropped with the handle.
    alarm: Option<Task<()>>,
}

impl Child {
    /// The handle of a child that has just been started.
    pub(crate) fn enter(number: u32, recipient: Recipient) -> io::Result<Child> {
        let key = children::insert(number, recipient)?;
        Ok(Child { key, number, stdin: None, stdout: None, stderr: None, alarm: None })
    }

    /// Returns the process number. It may belong to another process once the child has been reaped.
    pub fn id(&self) -> u32 {
        self.number
    }

    /// Waits until the child has ended. Closes its standard input first, for it may wait for that end; reads
    /// nothing: a child that writes much into a pipe that nobody reads does not end.
    ///
    /// Can be called again, with the same answer, and be cancelled.
    ///
    /// # Errors
    ///
    /// When somebody else has reaped it (ECHILD), or it belongs to no loop of this thread.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        poll_fn(|cx| self.poll_wait(cx)).await
    }

    /// As [`wait`](Self::wait), for hand-written futures; standard input is left alone.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        match children::poll_ending(self.key, cx) {
            Some(ending) => ending.map(Ending::status),
            None => Poll::Ready(Err(unknown_child())),
        }
    }

    /// Returns how the child ended, or `None` while it runs. The answer is as old as the loop's turn.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        children::ending(self.key).unwrap_or_else(|| Err(unknown_child()))
    }

    /// Reads the output and the error messages, as far as they are pipes, and waits for the end.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); `FileTooLarge` when one of the two is longer than `limit` bytes: the child
    /// is killed then.
    pub async fn wait_with_output(mut self, limit: usize) -> io::Result<Output> {
        self.stdin = None;
        let stdout = read_to_end(self.stdout.take(), limit);
        let stderr = read_to_end(self.stderr.take(), limit);
        let (stdout, stderr) = both(pin!(stdout), pin!(stderr)).await?;
        let status = self.wait().await?;
        Ok(Output { status, stdout, stderr })
    }

    /// Kills the child (SIGKILL). One that has ended already is well.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when the child has become another user; an error when it belongs to no loop of
    /// this thread.
    pub fn kill(&mut self) -> io::Result<()> {
        self.send(RawSignal::KILL)
    }

    /// Sends the child a signal. One that has ended already is well.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill).
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let signal = RawSignal::from_named_raw(signal.number());
        self.send(signal.ok_or(io::ErrorKind::InvalidInput)?)
    }

    /// Says whether the child was killed at its deadline. The answer is as old as the loop's turn.
    pub fn timed_out(&self) -> bool {
        children::has_expired(self.key)
    }

    /// Returns what the child has used up; nothing as long as it has not ended.
    pub fn usage(&self) -> Usage {
        children::usage(self.key)
    }

    /// Starts what kills the child at its deadline, whoever waits for what meanwhile.
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

/// Waits for two futures, and no longer than until one fails.
async fn both<T, E>(
    mut one: Pin<&mut impl Future<Output = Result<T, E>>>,
    mut other: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> Result<(T, T), E> {
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(result) = one.as_mut().poll(cx)
        {
            first = Some(result?);
        }
        if second.is_none()
            && let Poll::Ready(result) = other.as_mut().poll(cx)
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
