//! One request to a FastCGI process, as mod_fcgid sends it: a connection of its own, request id 1, the body whole.

use std::io::{self, IoSlice};
use std::path::Path;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use event_loop::net::{Address, Stream};
use fastcgi_server::client::{Connection, Event};
use fastcgi_server::{RequestId, Role, one_line};

use crate::installation::Variables;

/// How much is read at once.
const READ: usize = 16 * 1024;

/// A request in flight. Dropping it closes the connection.
pub(crate) struct FastCgiRequest {
    stream: Stream,
    protocol: Connection,
    has_ended: bool,
}

impl FastCgiRequest {
    /// Connects to a process, and queues the request.
    pub(crate) async fn begin(
        socket: &Path,
        variables: &Variables,
        body: Bytes,
    ) -> io::Result<Self> {
        let stream = Stream::connect(&Address::Unix(socket.to_owned())).await?;
        let mut protocol = Connection::new();
        let id = RequestId::ONE;
        protocol.begin(id, Role::Responder, false);
        let pairs = variables.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        protocol.params(id, pairs);
        protocol.params_end(id);
        protocol.stdin(id, body);
        protocol.stdin_end(id);
        Ok(FastCgiRequest { stream, protocol, has_ended: false })
    }

    /// Returns the next piece of output; `None` at its end.
    pub(crate) fn poll_output(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        self.write(context)?;
        loop {
            while let Some(event) = self.protocol.poll_event() {
                match event {
                    Event::Stdout { data, .. } => return Poll::Ready(Ok(Some(data))),
                    Event::Stderr { data, .. } => {
                        tracing::warn!("To the web server's error log: {}", one_line(&data));
                    }
                    Event::End { .. } => self.has_ended = true,
                    Event::Failed(error) => return Poll::Ready(Err(io::Error::other(error))),
                    Event::Values(_) | Event::UnknownType(_) => {}
                }
            }
            if self.has_ended {
                return Poll::Ready(Ok(None));
            }
            let mut buffer = BytesMut::with_capacity(READ);
            match self.stream.poll_read_into(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => self.protocol.handle_input(buffer.freeze()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes what is queued, as far as it goes. A process that answers before it has read all is not an error.
    fn write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.protocol.unsent() > 0 {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.protocol.transmit(&mut slices);
            match self.stream.poll_write_vectored(context, &slices[..count]) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(written)) => self.protocol.transmitted(written),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    let rest = self.protocol.unsent();
                    self.protocol.transmitted(rest);
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }
}
