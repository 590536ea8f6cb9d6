//! Writing that never waits forever, whatever the descriptor: pipes and terminals are inherited from other processes,
//! which decide whether they block. All of it is async-signal-safe.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::pipe::PIPE_BUF;

use crate::descriptors::borrow;

/// Writes everything, waiting for room for at most this many milliseconds. Reopens the descriptor for that if
/// possible.
///
/// # Errors
///
/// EAGAIN if there was no room in time; a part may have been written.
pub fn write_within(
    descriptor: RawFd,
    bytes: &[u8],
    mut milliseconds: i64,
) -> rustix::io::Result<()> {
    // Between the check for room and the write, another process could fill the pipe. A reopened descriptor has
    // its own flags.
    match reopen(borrow(descriptor)) {
        Some(own) => write_all(own.as_raw_fd(), bytes, &mut milliseconds),
        None => write_all(descriptor, bytes, &mut milliseconds),
    }
}

/// Reopens a pipe or terminal, non-blocking. Not a file, whose other users rely on its shared position, and not
/// another account's pipe.
fn reopen(descriptor: BorrowedFd<'_>) -> Option<OwnedFd> {
    let kind = FileType::from_raw_mode(fstat(descriptor).ok()?.st_mode);
    if !matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
        return None;
    }
    let path = path_of(descriptor.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(CStr::from_bytes_until_nul(&path).ok()?, flags, Mode::empty()).ok()
}

/// Returns `/proc/self/fd/N`, padded with zero bytes.
fn path_of(descriptor: RawFd) -> [u8; 32] {
    let mut path = [0; 32];
    // The longest number has ten digits. Formatting one allocates nothing.
    let _ = write!(&mut path[..], "/proc/self/fd/{descriptor}");
    path
}

/// Writes everything, waiting for room for at most `milliseconds_left`, which is reduced by the time spent. Does not
/// wait longer even if the descriptor is blocking; its flags are shared with other processes, so they are not
/// changed.
///
/// # Errors
///
/// EAGAIN if there was no room in time; a part may have been written.
pub fn write_all(
    descriptor: RawFd,
    mut bytes: &[u8],
    milliseconds_left: &mut i64,
) -> rustix::io::Result<()> {
    let descriptor = borrow(descriptor);
    while !bytes.is_empty() {
        match write_some(descriptor, bytes) {
            Ok(written) => bytes = &bytes[written.min(bytes.len())..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if *milliseconds_left > 0 => {
                // Only reads the clock, and panics only if that fails.
                let before = Instant::now();
                let ready = has_room(descriptor, *milliseconds_left);
                // At least one, or many short waits would never use up the patience.
                *milliseconds_left -= (before.elapsed().as_millis() as i64).max(1);
                if !ready {
                    return Err(Errno::AGAIN);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes as much as there is room for now; EAGAIN if there is none.
fn write_some(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    match send(descriptor, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::NOTSOCK) if has_room(descriptor, 0) => {
            // A pipe that has room at all has room for this much.
            rustix::io::write(descriptor, &bytes[..bytes.len().min(PIPE_BUF)])
        }
        Err(Errno::NOTSOCK) => Err(Errno::AGAIN),
        sent => sent,
    }
}

/// Returns whether a write would proceed or fail immediately; waits for at most this long.
fn has_room(descriptor: BorrowedFd<'_>, milliseconds: i64) -> bool {
    let mut wanted = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
    let timeout =
        Timespec { tv_sec: milliseconds / 1000, tv_nsec: (milliseconds % 1000) * 1_000_000 };
    match poll(&mut wanted, Some(&timeout)) {
        Ok(ready) => ready > 0,
        // A signal came first. A caller that must not wait must not write either: that could block.
        Err(error) => error == Errno::INTR && milliseconds > 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_descriptors() {
        for (descriptor, path) in [
            (0, "/proc/self/fd/0"),
            (2, "/proc/self/fd/2"),
            (RawFd::MAX, "/proc/self/fd/2147483647"),
        ] {
            let found = path_of(descriptor);
            let found = CStr::from_bytes_until_nul(&found).unwrap();
            assert_eq!(found.to_str().unwrap(), path);
        }
    }

    #[test]
    fn a_full_pipe_refuses_further_writes() {
        use std::io::Read;
        use std::os::fd::AsRawFd;

        // Its ends are blocking.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let lines = [b'x'; 5000];
        let mut taken = 0;
        let refusal = loop {
            match write_within(writer.as_raw_fd(), &lines, 0) {
                Ok(()) => taken += lines.len(),
                Err(why) => break why,
            }
        };
        assert_eq!(refusal, Errno::AGAIN);
        assert!(taken >= 30_000, "{taken}");
        drop(writer);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!((taken..taken + lines.len()).contains(&read.len()), "{}", read.len());
    }
}
