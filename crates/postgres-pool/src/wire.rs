//! A stream to PostgreSQL that is closed when the server has closed it, too, and that does not wait for ever for a server
//! that is silent.
//!
//! tokio-postgres closes a connection as soon as it has said so. The server still counts it then, and may refuse the
//! next one; only when its process has ended does the stream end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use event_loop::net::Stream;
use event_loop::time::{Sleep, sleep};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known about a stream to those who do not have it.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    is_leaving: AtomicBool,
    was_silent: AtomicBool,
}

impl Signs {
    /// Returns whether everything has been written, and only the server's end is awaited.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Returns whether the server was silent for too long, so that it was given up.
    pub(crate) fn was_silent(&self) -> bool {
        self.was_silent.load(Ordering::Relaxed)
    }
}

/// A stream whose shutdown waits for the server's.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    signs: Arc<Signs>,
    /// How long the server may be silent after something was written; `None` for as long as it likes.
    patience: Option<Duration>,
    /// Runs since the first write after the last read.
    silence: Option<Sleep>,
}

impl Wire {
    pub(crate) fn new(stream: Stream, patience: Option<Duration>) -> Self {
        Wire { stream, signs: Arc::default(), patience, silence: None }
    }

    pub(crate) fn signs(&self) -> Arc<Signs> {
        Arc::clone(&self.signs)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence {
            ready!(Pin::new(silence).poll(context));
            self.silence = None;
            self.signs.was_silent.store(true, Ordering::Relaxed);
            let what = "PostgreSQL has not responded in time";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)));
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let (Poll::Ready(Ok(1..)), None, Some(patience)) =
            (&written, &self.silence, self.patience)
        {
            // The task that writes is the one that reads, so the timer wakes it.
            let silence = self.silence.insert(sleep(patience));
            let _ = Pin::new(silence).poll(context);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.signs.is_leaving.swap(true, Ordering::Relaxed) {
            self.stream.shutdown_write()?;
        }
        loop {
            let mut rest = [0; 512];
            let mut rest = ReadBuf::new(&mut rest);
            // An error is an end, too.
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut rest));
            if read.is_err() || rest.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
