//! Standard error as the log: a terminal, a file, or a pipe whose reader may have stopped reading.
//!
//! Its open file is shared with whoever started us, so it is never made non-blocking: it is opened once
//! more, or asked first.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::net::{SendFlags, send};

/// How lines get there without waiting.
#[derive(Debug)]
pub(super) enum Stream {
    /// A file: writing to it does not wait for a reader.
    File,
    /// A pipe or a terminal, opened once more for us alone.
    Reopened(File),
    /// A socket.
    Socket,
    /// A pipe of somebody else's, which must not be opened.
    Asked,
}

/// What a pipe that is not full has room for, so that writing as much does not wait (POSIX: PIPE_BUF).
const PIPE_ROOM: usize = 4096;

impl Stream {
    /// Finds out what standard error is.
    pub(super) fn new() -> Stream {
        let kind = fstat(io::stderr()).map(|it| FileType::from_raw_mode(it.st_mode));
        match kind {
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                let mut options = OpenOptions::new();
                options.append(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
                options.open("/proc/self/fd/2").map_or(Stream::Asked, Stream::Reopened)
            }
            Ok(FileType::Socket) => Stream::Socket,
            _ => Stream::File,
        }
    }

    /// Writes a line, or what can be written of it without waiting.
    ///
    /// # Errors
    /// What the system answers; `WouldBlock` when nobody reads.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        while !rest.is_empty() {
            match self.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::File => io::stderr().write(bytes),
            Stream::Reopened(file) => file.write(bytes),
            Stream::Socket => {
                Ok(send(io::stderr(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
            }
            Stream::Asked => {
                let stderr = io::stderr();
                let mut asked = [PollFd::new(&stderr, PollFlags::OUT)];
                // Somebody else who writes to it may be faster; that is rare, and nothing can be done.
                if poll(&mut asked, Some(&Timespec::default()))? == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                rustix::io::write(stderr.as_fd(), &bytes[..bytes.len().min(PIPE_ROOM)])
                    .map_err(io::Error::from)
            }
        }
    }
}
