//! What passes through the pipes between a process and its child: frames of a kind, a length and bytes.
//!
//! Both ends are the same program with the same memory layout at the same moment, so this is not a
//! protocol for others. Frames are validated anyway, because the child's memory may be corrupted.

use std::future::poll_fn;
use std::io::{self, IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use event_loop::pipe::Writer;
use http::{HeaderName, HeaderValue, Response, StatusCode};

/// One letter, and the length of what follows.
const HEADER: usize = 5;

/// The maximum length of a frame in bytes; longer data is split.
const MAX_FRAME_BYTES: usize = 1 << 30;

/// Room for a read: the capacity of a pipe.
const READ: usize = 64 * 1024;

/// What one end sends to the other.
#[derive(Debug)]
pub(crate) enum PipeFrame {
    /// The response's head. `exact`: the length of the body, if known. `is_all`: nothing follows.
    Head { response: Response<()>, exact: Option<u64>, is_all: bool },
    /// Bytes of a body.
    Data(Bytes),
    /// The body is complete.
    End,
    /// The body failed, for this reason.
    Failed(String),
}

impl PipeFrame {
    /// Writes the frame; waits for room.
    ///
    /// # Errors
    ///
    /// When the reader has gone.
    pub(crate) async fn write(self, pipe: &mut Writer) -> io::Result<()> {
        let (kind, mut bytes) = match self {
            PipeFrame::Head { response, exact, is_all } => (b'H', encode(&response, exact, is_all)),
            PipeFrame::Data(data) if data.is_empty() => return Ok(()),
            PipeFrame::Data(data) => (b'D', data),
            PipeFrame::End => (b'E', Bytes::new()),
            PipeFrame::Failed(message) => (b'F', message.into()),
        };
        while bytes.len() > MAX_FRAME_BYTES {
            let part = bytes.split_to(MAX_FRAME_BYTES);
            write(kind, part, pipe).await?;
        }
        write(kind, bytes, pipe).await
    }
}

async fn write(kind: u8, mut bytes: Bytes, pipe: &mut Writer) -> io::Result<()> {
    let length = (bytes.len() as u32).to_le_bytes();
    let header = [kind, length[0], length[1], length[2], length[3]];
    let mut header = &header[..];
    while header.has_remaining() || bytes.has_remaining() {
        let slices = [IoSlice::new(header), IoSlice::new(&bytes)];
        let written = poll_fn(|context| pipe.poll_write_vectored(context, &slices)).await?;
        let of_header = written.min(header.len());
        header.advance(of_header);
        bytes.advance(written - of_header);
    }
    Ok(())
}

fn encode(response: &Response<()>, exact: Option<u64>, is_all: bool) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1024);
    bytes.put_u16(response.status().as_u16());
    bytes.put_u64(exact.unwrap_or(u64::MAX));
    bytes.put_u8(u8::from(is_all));
    for (name, value) in response.headers() {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            bytes.put_u32(part.len() as u32);
            bytes.put_slice(part);
        }
    }
    bytes.freeze()
}

fn decode(mut bytes: Bytes) -> Option<PipeFrame> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(bytes.try_get_u16().ok()?).ok()?;
    let exact = Some(bytes.try_get_u64().ok()?).filter(|exact| *exact != u64::MAX);
    let is_all = bytes.try_get_u8().ok()? == 1;
    let part = |bytes: &mut Bytes| {
        let length = bytes.try_get_u32().ok()? as usize;
        (length <= bytes.len()).then(|| bytes.split_to(length))
    };
    while bytes.has_remaining() {
        let name = HeaderName::from_bytes(&part(&mut bytes)?).ok()?;
        let value = HeaderValue::from_maybe_shared(part(&mut bytes)?).ok()?;
        response.headers_mut().append(name, value);
    }
    Some(PipeFrame::Head { response, exact, is_all })
}

/// Splits what is read into frames. Data is passed on as it arrives, in parts.
#[derive(Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
    /// Bytes of a data frame that have not been passed on.
    data_left: usize,
}

impl Frames {
    /// Returns the buffer for the next read, with room for it.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ);
        &mut self.buffer
    }

    /// Returns the next frame, if it has arrived.
    ///
    /// # Errors
    ///
    /// When the bytes are not a frame.
    pub(crate) fn next(&mut self) -> Result<Option<PipeFrame>, &'static str> {
        const NONSENSE: &str = "its process sent a malformed response";
        if self.data_left == 0 {
            let Some((header, rest)) = self.buffer.split_at_checked(HEADER) else {
                return Ok(None);
            };
            let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
            if length > MAX_FRAME_BYTES {
                return Err(NONSENSE);
            }
            let kind = header[0];
            if kind != b'D' {
                if rest.len() < length {
                    return Ok(None);
                }
                self.buffer.advance(HEADER);
                let bytes = self.buffer.split_to(length).freeze();
                return match kind {
                    b'H' => decode(bytes).map(Some).ok_or(NONSENSE),
                    b'E' => Ok(Some(PipeFrame::End)),
                    b'F' => {
                        Ok(Some(PipeFrame::Failed(String::from_utf8_lossy(&bytes).into_owned())))
                    }
                    _ => Err(NONSENSE),
                };
            }
            self.buffer.advance(HEADER);
            self.data_left = length;
        }
        let there = self.data_left.min(self.buffer.len());
        if there == 0 {
            return Ok(None);
        }
        self.data_left -= there;
        Ok(Some(PipeFrame::Data(self.buffer.split_to(there).freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_parsed_at_every_split() {
        let response = Response::builder()
            .status(404)
            .header("set-cookie", "a=b")
            .header("set-cookie", "c=\u{e4}")
            .body(())
            .unwrap();
        let mut stream = BytesMut::new();
        let mut put = |kind: u8, bytes: &[u8]| {
            stream.put_u8(kind);
            stream.put_u32_le(bytes.len() as u32);
            stream.put_slice(bytes);
        };
        put(b'H', &encode(&response, Some(7), false));
        put(b'D', b"abc");
        put(b'D', b"defg");
        put(b'F', b"why");
        put(b'E', b"");
        for cut in 1..stream.len() {
            let mut frames = Frames::default();
            let (mut data, mut others) = (Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                frames.buffer().extend_from_slice(piece);
                while let Some(frame) = frames.next().unwrap() {
                    match frame {
                        PipeFrame::Data(bytes) => data.extend_from_slice(&bytes),
                        PipeFrame::Head { response: got, exact, is_all } => {
                            assert_eq!(got.headers(), response.headers());
                            assert_eq!(
                                (got.status(), exact, is_all),
                                (response.status(), Some(7), false)
                            );
                        }
                        other => others.push(format!("{other:?}")),
                    }
                }
            }
            assert_eq!(data, b"abcdefg");
            assert_eq!(others, ["Failed(\"why\")", "End"]);
        }
    }

    #[test]
    fn malformed_frames_are_rejected() {
        for nonsense in
            [&b"X\0\0\0\0"[..], b"D\xff\xff\xff\xff", b"H\x01\0\0\0x", b"H\x0b\0\0\0\0\0aaaaaaaab"]
        {
            let mut frames = Frames::default();
            frames.buffer().extend_from_slice(nonsense);
            assert!(frames.next().is_err(), "{nonsense:?}");
        }
    }
}
