//! A lingering close: closing a socket while its peer still sends resets the connection and takes the response back.

use std::future::poll_fn;

use bytes::BytesMut;
use event_loop::net::Stream;

use crate::request::application::MIN_READ_BYTES;

/// Ends our side of a connection, then reads and discards what the peer still sends: to its end, or up to `limit`
/// bytes.
pub(crate) async fn discard(mut stream: Stream, limit: u64) {
    if stream.shutdown_write().is_err() {
        return;
    }
    let mut buffer = BytesMut::with_capacity(MIN_READ_BYTES);
    let mut taken = 0;
    while taken <= limit {
        buffer.clear();
        match poll_fn(|context| stream.poll_read_into(context, &mut buffer)).await {
            Ok(0) | Err(_) => return,
            Ok(count) => taken += count as u64,
        }
    }
}
