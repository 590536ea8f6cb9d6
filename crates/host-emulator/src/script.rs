//! One request to a CGI script: a process of its own, the body on its standard input as it arrives, the response on its
//! standard output.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::unix::ffi::OsStrExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use app_server::Body;
use bytes::{Buf, Bytes, BytesMut};
use event_loop::pipe::Reader;
use http_body::Body as _;
use process::{Child, Stdio};

use crate::installation::{Installation, Variables};

/// How much is read at once.
const READ: usize = 16 * 1024;

/// A script that runs. Dropping it kills the process, as Apache does when the visitor has left.
pub(crate) struct Script {
    child: Child,
    output: Reader,
    body: Option<Body>,
    /// What has arrived of the body and is not written.
    unwritten: Bytes,
}

impl Script {
    /// Starts the process.
    pub(crate) fn start(
        installation: &Installation,
        variables: &Variables,
        body: Body,
    ) -> io::Result<Self> {
        let mut command = installation.command()?;
        for (name, value) in variables {
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Script { child, output, body: Some(body), unwritten: Bytes::new() })
    }

    /// Returns the next piece of output; `None` at its end.
    pub(crate) fn poll_output(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        self.write(context);
        let mut buffer = BytesMut::with_capacity(READ);
        match self.output.poll_read_into(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(Some(buffer.freeze()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// Passes the body on, as far as it goes. A script need not read it.
    fn write(&mut self, context: &mut Context<'_>) {
        while let Some(stdin) = &mut self.child.stdin {
            if self.unwritten.has_remaining() {
                match stdin.poll_write_vectored(context, &[IoSlice::new(&self.unwritten)]) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(written)) => self.unwritten.advance(written),
                    Poll::Ready(Err(_)) => self.child.stdin = None,
                }
                continue;
            }
            let frame = self.body.as_mut().map(|body| Pin::new(body).poll_frame(context));
            match frame {
                Some(Poll::Pending) => return,
                Some(Poll::Ready(Some(Ok(frame)))) => {
                    self.unwritten = frame.into_data().unwrap_or_default();
                }
                // The end of the body; or the visitor has left.
                Some(Poll::Ready(None | Some(Err(_)))) | None => {
                    self.body = None;
                    self.child.stdin = None;
                }
            }
        }
    }
}
