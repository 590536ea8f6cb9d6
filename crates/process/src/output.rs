//! A child's output: collected, or passed on line by line.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;

use bytes::BytesMut;
use event_loop::pipe::Reader;

use crate::descriptors;

/// Reads a child's output to its end and passes it to `to`: whole lines unless they are longer than 8 KiB. Returns
/// whether it contains std's message of a failed allocation, which precedes the abort.
pub async fn pass_on(printed: Option<Reader>, mut to: impl FnMut(&[u8])) -> bool {
    let Some(mut printed) = printed else { return false };
    let mut buffer = BytesMut::new();
    let mut out_of_memory = false;
    loop {
        buffer.reserve(LINE_BYTES);
        let read = poll_fn(|context| printed.poll_read_into(context, &mut buffer)).await;
        let ended = !matches!(read, Ok(1..));
        let whole = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole =
            if ended || whole == 0 && buffer.len() >= LINE_BYTES { buffer.len() } else { whole };
        let lines = buffer.split_to(whole);
        if !lines.is_empty() {
            let mut each = lines[..].split(|byte| *byte == b'\n');
            out_of_memory |= each.any(|line| line.starts_with(MEMORY_REFUSED));
            to(&lines);
        }
        if ended {
            return out_of_memory;
        }
    }
}

/// Writes to standard error as much as possible without waiting. If it cannot be written, there is nowhere to report
/// it.
pub fn to_stderr(lines: &[u8]) {
    let _ = descriptors::write_at_once(io::stderr().as_fd(), lines);
}

const LINE_BYTES: usize = 8 * 1024;

/// The start of what std prints when an allocation fails, before it aborts.
const MEMORY_REFUSED: &[u8] = b"memory allocation of ";

/// Reads a pipe to its end; returns nothing if there is no pipe.
pub(crate) async fn read_to_end(reader: Option<Reader>, limit: usize) -> io::Result<Vec<u8>> {
    let mut collected = BytesMut::new();
    let Some(mut reader) = reader else { return Ok(Vec::new()) };
    loop {
        collected.reserve(READ_SIZE);
        if poll_fn(|context| reader.poll_read_into(context, &mut collected)).await? == 0 {
            return Ok(collected.into());
        }
        if collected.len() > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the child wrote more than the {limit} bytes allowed"),
            ));
        }
    }
}

/// How many bytes to read at a time: an eighth of what a pipe holds.
const READ_SIZE: usize = 8 * 1024;
