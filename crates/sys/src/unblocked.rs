//! Writing that never waits forever, whatever the descriptor: pipes and terminals are inherited from other processes,
//! which decide whether they block. All of it is async-signal-safe.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use crate::errno::errno;

/// Writes everything, waiting for room for at most this many milliseconds. Reopens the descriptor for that if
/// possible.
///
/// # Errors
///
/// errno: EAGAIN if there was no room in time; a part may have been written.
pub fn write_within(descriptor: RawFd, bytes: &[u8], mut milliseconds: i64) -> Result<(), c_int> {
    // Between the check for room and the write, another process could fill the pipe. A reopened descriptor has
    // its own flags.
    let Some(own) = reopen(descriptor) else {
        return write_all(descriptor, bytes, &mut milliseconds);
    };
    let written = write_all(own, bytes, &mut milliseconds);
    // SAFETY: signal-safe; it was opened above, and nothing else has it.
    unsafe { libc::close(own) };
    written
}

/// Reopens a pipe or terminal, non-blocking. Not a file, whose other users rely on its shared position, and not
/// another account's pipe.
fn reopen(descriptor: RawFd) -> Option<RawFd> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: signal-safe; there is room for the result.
    let known = unsafe { libc::fstat(descriptor, status.as_mut_ptr()) } == 0;
    // SAFETY: it is zeroed or filled in, and a stat is plain integers.
    let kind = unsafe { status.assume_init() }.st_mode & libc::S_IFMT;
    if !known || (kind != libc::S_IFIFO && kind != libc::S_IFCHR) {
        return None;
    }
    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: signal-safe; the path is a C string: everything after what was written is zero.
    let own = unsafe { libc::open(path_of(descriptor).as_ptr().cast(), flags) };
    (own >= 0).then_some(own)
}

/// Returns `/proc/self/fd/N`, terminated by a zero byte.
fn path_of(descriptor: RawFd) -> [u8; 32] {
    const FOLDER: &[u8] = b"/proc/self/fd/";
    let mut path = [0; 32];
    path[..FOLDER.len()].copy_from_slice(FOLDER);
    let mut digits = [0; 10];
    let mut count = 0;
    let mut rest = descriptor.unsigned_abs();
    loop {
        digits[count] = b'0' + (rest % 10) as u8;
        count += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    for at in 0..count {
        path[FOLDER.len() + at] = digits[count - 1 - at];
    }
    path
}

/// Writes everything, waiting for room for at most `milliseconds_left`, which is reduced by the time spent. Does not
/// wait longer even if the descriptor is blocking; its flags are shared with other processes, so they are not
/// changed.
///
/// # Errors
///
/// errno: EAGAIN if there was no room in time; a part may have been written.
pub fn write_all(
    descriptor: RawFd,
    mut bytes: &[u8],
    milliseconds_left: &mut i64,
) -> Result<(), c_int> {
    while !bytes.is_empty() {
        match write_some(descriptor, bytes) {
            Ok(written) => bytes = &bytes[written.min(bytes.len())..],
            Err(libc::EINTR) => {}
            Err(libc::EAGAIN) if *milliseconds_left > 0 => {
                let before = monotonic_milliseconds();
                let ready = has_room(descriptor, *milliseconds_left);
                *milliseconds_left -= (monotonic_milliseconds() - before).max(0);
                if !ready {
                    return Err(libc::EAGAIN);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes as much as there is room for now; EAGAIN if there is none.
fn write_some(descriptor: RawFd, bytes: &[u8]) -> Result<usize, c_int> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: signal-safe; pointer and length are a slice's.
    let sent = unsafe { libc::send(descriptor, bytes.as_ptr().cast(), bytes.len(), flags) };
    if let Ok(sent) = usize::try_from(sent) {
        return Ok(sent);
    }
    match errno() {
        libc::ENOTSOCK => {}
        error => return Err(error),
    }
    if !has_room(descriptor, 0) {
        return Err(libc::EAGAIN);
    }
    // A pipe that has room at all has room for this much.
    let piece = &bytes[..bytes.len().min(libc::PIPE_BUF)];
    // SAFETY: signal-safe; pointer and length are a slice's.
    let written = unsafe { libc::write(descriptor, piece.as_ptr().cast(), piece.len()) };
    usize::try_from(written).map_err(|_| errno())
}

/// Returns whether a write would proceed or fail immediately; waits for at most this long.
fn has_room(descriptor: RawFd, milliseconds: i64) -> bool {
    let mut wanted = libc::pollfd { fd: descriptor, events: libc::POLLOUT, revents: 0 };
    // SAFETY: signal-safe; one pollfd that outlives the call.
    unsafe { libc::poll(&raw mut wanted, 1, milliseconds as c_int) != 0 }
}

/// Reads a clock that is never set back.
fn monotonic_milliseconds() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: signal-safe; `now` is a complete timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
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
            let found = std::ffi::CStr::from_bytes_until_nul(&found).unwrap();
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
        assert_eq!(refusal, libc::EAGAIN);
        assert!(taken >= 30_000, "{taken}");
        drop(writer);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!((taken..taken + lines.len()).contains(&read.len()), "{}", read.len());
    }
}
