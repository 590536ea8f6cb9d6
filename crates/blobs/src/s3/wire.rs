//! A stream with or without TLS, with hyper's traits. Knows nothing of HTTP or S3.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use event_loop::net::Stream;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

/// A connection to a server, in the clear or inside TLS, with hyper's traits.
pub(super) enum Wire {
    Plain(Stream),
    /// hyper's buffers cannot be handed to tokio's traits without unsafe code, so what arrives is copied.
    Encrypted {
        stream: Box<TlsStream<Stream>>,
        buffer: Box<[u8]>,
    },
}

/// A TLS record, after decryption, has at most this many bytes.
const RECORD_BYTES: usize = 16 << 10;

impl Wire {
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
        Ok(Wire::Encrypted { stream, buffer: vec![0; RECORD_BYTES].into() })
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Read::poll_read(Pin::new(stream), context, cursor),
            Wire::Encrypted { stream, buffer } => {
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
        match self.get_mut() {
            Wire::Plain(stream) => Write::poll_write(Pin::new(stream), context, bytes),
            Wire::Encrypted { stream, .. } => {
                AsyncWrite::poll_write(Pin::new(stream), context, bytes)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Write::poll_flush(Pin::new(stream), context),
            Wire::Encrypted { stream, .. } => AsyncWrite::poll_flush(Pin::new(stream), context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Write::poll_shutdown(Pin::new(stream), context),
            Wire::Encrypted { stream, .. } => AsyncWrite::poll_shutdown(Pin::new(stream), context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Write::poll_write_vectored(Pin::new(stream), context, slices),
            Wire::Encrypted { stream, .. } => {
                AsyncWrite::poll_write_vectored(Pin::new(stream), context, slices)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
