//! Errors that say nothing about what was tried: it may succeed in a moment.

use std::io;

/// Whether the descriptor table of the process or the system is full, or memory for a descriptor is short.
pub fn is_short(error: &io::Error) -> bool {
    use libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    error.raw_os_error().is_some_and(|code| [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(&code))
}

/// Whether anything is short that a new process needs: as [`is_short`], or the number of processes (EAGAIN of fork(2)
/// and execve(2)).
pub fn is_short_for_process(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || is_short(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortages_pass_and_other_errors_do_not() {
        for (code, short, short_for_process) in [
            (libc::EMFILE, true, true),
            (libc::ENFILE, true, true),
            (libc::ENOMEM, true, true),
            (libc::ENOBUFS, true, true),
            (libc::EAGAIN, false, true),
            (libc::EPERM, false, false),
            (libc::ENOENT, false, false),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(
                (is_short(&error), is_short_for_process(&error)),
                (short, short_for_process)
            );
        }
    }
}
