//! A stream with or without TLS, with hyper's traits. Knows nothing of S3.
//!
//! A server that refuses a request may respond and close the connection while the body is still being sent (RFC 9112
//! §9.6). The rest of the body then goes nowhere, and the response, which has arrived, is read: hyper would report the
//! write that failed and drop the response.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use event_loop::net::Stream;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

/// A connection to a server, in the clear or inside TLS, with hyper's traits.
pub(super) struct Wire {
    stream: Encryption,
    /// Whether the server reads nothing more, so that what is written is dropped. Reading tells how the connection ends.
    is_cut: Arc<AtomicBool>,
}

enum Encryption {
    Off(Stream),
    /// hyper's buffers cannot be handed to tokio's traits without unsafe code, so what arrives is copied.
    Tls {
        stream: Box<TlsStream<Stream>>,
        buffer: Box<[u8]>,
    },
}

/// A TLS record, after decryption, has at most this many bytes.
const RECORD_BYTES: usize = 16 << 10;

impl Wire {
    /// Sends and receives in the clear.
    pub(super) fn plain(stream: Stream) -> Wire {
        Wire { stream: Encryption::Off(stream), is_cut: Arc::default() }
    }

    /// Performs the handshake with the server `name`, which may be an IP address.
    ///
    /// # Errors
    ///
    /// If the server's certificate is not for that name or not by a trusted authority, or the connection breaks.
    pub(super) async fn encrypt(
        stream: Stream,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<Wire> {
        let stream = Box::new(tls_client::connect(stream, config, name).await?);
        let stream = Encryption::Tls { stream, buffer: vec![0; RECORD_BYTES].into() };
        Ok(Wire { stream, is_cut: Arc::default() })
    }

    /// Returns what tells whether something was written that the server has not read.
    pub(super) fn is_cut(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_cut)
    }

    /// Returns what became of a write of this many bytes.
    fn written(
        &mut self,
        outcome: Poll<io::Result<usize>>,
        size: impl FnOnce() -> usize,
    ) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(Err(error)) if is_closed_by_server(&error) => {
                self.is_cut.store(true, Ordering::Relaxed);
                Poll::Ready(Ok(size()))
            }
            outcome => outcome,
        }
    }
}

fn is_closed_by_server(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Encryption::Off(stream) => Read::poll_read(Pin::new(stream), context, cursor),
            Encryption::Tls { stream, buffer } => {
                let size = buffer.len().min(cursor.remaining());
                let mut arrived = ReadBuf::new(&mut buffer[..size]);
                ready!(AsyncRead::poll_read(Pin::new(stream), context, &mut arrived))?;
                cursor.put_slice(arrived.filled());
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        if wire.is_cut.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = match &mut wire.stream {
            Encryption::Off(stream) => Write::poll_write(Pin::new(stream), context, bytes),
            Encryption::Tls { stream, .. } => {
                AsyncWrite::poll_write(Pin::new(stream), context, bytes)
            }
        };
        wire.written(outcome, || bytes.len())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.is_cut.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let outcome = match &mut wire.stream {
            Encryption::Off(stream) => Write::poll_flush(Pin::new(stream), context),
            Encryption::Tls { stream, .. } => AsyncWrite::poll_flush(Pin::new(stream), context),
        };
        wire.written(outcome.map_ok(|()| 0), || 0).map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Encryption::Off(stream) => Write::poll_shutdown(Pin::new(stream), context),
            Encryption::Tls { stream, .. } => AsyncWrite::poll_shutdown(Pin::new(stream), context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let size = || slices.iter().map(|slice| slice.len()).sum();
        if wire.is_cut.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(size()));
        }
        let outcome = match &mut wire.stream {
            Encryption::Off(stream) => {
                Write::poll_write_vectored(Pin::new(stream), context, slices)
            }
            Encryption::Tls { stream, .. } => {
                AsyncWrite::poll_write_vectored(Pin::new(stream), context, slices)
            }
        };
        wire.written(outcome, size)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use event_loop::net::Address;
    use hyper::rt::ReadBuf;

    use super::*;

    async fn write(wire: &mut Wire) -> io::Result<usize> {
        let bytes = [0; 10_000];
        poll_fn(|context| Pin::new(&mut *wire).poll_write(context, &bytes)).await
    }

    async fn read(wire: &mut Wire) -> io::Result<Vec<u8>> {
        let mut bytes = [0; 100];
        let mut arrived = ReadBuf::new(&mut bytes);
        poll_fn(|context| Pin::new(&mut *wire).poll_read(context, arrived.unfilled())).await?;
        Ok(arrived.filled().to_vec())
    }

    #[test]
    fn a_response_is_read_although_the_server_has_closed_the_connection() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(server.local_addr().unwrap());
        event_loop::run(async {
            for response in [&b"no"[..], b""] {
                let mut wire = Wire::plain(Stream::connect(&address).await.unwrap());
                let (mut connection, _) = server.accept().unwrap();
                assert_eq!(write(&mut wire).await.unwrap(), 10_000);
                connection.read_exact(&mut [0; 10]).unwrap();
                connection.write_all(response).unwrap();
                drop(connection);
                assert!(!wire.is_cut().load(Ordering::Relaxed));
                assert_eq!(write(&mut wire).await.unwrap(), 10_000, "it goes nowhere");
                assert!(wire.is_cut().load(Ordering::Relaxed));
                poll_fn(|context| Pin::new(&mut wire).poll_flush(context)).await.unwrap();
                if !response.is_empty() {
                    assert_eq!(read(&mut wire).await.unwrap(), response);
                }
                let end = read(&mut wire).await;
                assert!(end.as_ref().is_ok_and(Vec::is_empty) || end.is_err(), "{end:?}");
            }
        })
        .unwrap();
    }
}
