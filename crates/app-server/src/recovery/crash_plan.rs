//! What the handlers do when the process cannot continue: for which process they act, and what the next image gets. A
//! static, because no argument of ours reaches a signal handler.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, Ordering};

use process::reexec::Image;

use super::tables::Text;

/// What the handlers do when the process cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    /// They are not installed.
    Off,
    /// Reply to every request, then restart in place.
    Restart,
    /// Reply to every request, then exit: the process is about to exit anyway.
    Exit,
    /// They are replying. A crash meanwhile, in the handler itself, has its default effect.
    Replying,
}

pub(super) static CRASH_PLAN: CrashPlan = CrashPlan {
    mode: AtomicU8::new(Mode::Off as u8),
    owner: AtomicU32::new(0),
    prepared: OnceLock::new(),
    listener: AtomicI32::new(-1),
    listener_is_on_stdin: AtomicBool::new(false),
    origin: Text::empty(),
};

pub(super) struct CrashPlan {
    mode: AtomicU8,
    /// The process that the handlers work for: a forked child that inherited them has no clients.
    owner: AtomicU32,
    /// Set once; a second installation in one process keeps it.
    prepared: OnceLock<Prepared>,
    /// The listen socket to hand to the next image; -1 for none.
    listener: AtomicI32,
    /// Whether it came at descriptor 0, and goes there.
    listener_is_on_stdin: AtomicBool,
    /// The launcher's file to pass on to the next image.
    origin: Text<8>,
}

struct Prepared {
    image: Option<Image>,
    crashes: Option<CString>,
}

impl CrashPlan {
    /// Whether the handlers are installed.
    #[inline]
    pub(super) fn is_installed(&self) -> bool {
        self.mode.load(Ordering::Relaxed) != Mode::Off as u8
    }

    /// Makes the handlers work for this process. `image` is what restarts in place; without it the process exits after
    /// the replies. `crashes` is the file that gets a line for each culprit that belongs to a part.
    ///
    /// # Errors
    ///
    /// If the path contains a zero byte.
    pub(super) fn set_up(&self, image: Option<Image>, crashes: Option<&Path>) -> io::Result<()> {
        let crashes = crashes
            .map(|file| CString::new(file.as_os_str().as_bytes()))
            .transpose()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.prepared.get_or_init(|| Prepared { image, crashes });
        self.set_mode(Mode::Restart);
        Ok(())
    }

    /// Sets what the handlers do, in this process.
    pub(super) fn set_mode(&self, mode: Mode) {
        self.owner.store(std::process::id(), Ordering::Relaxed);
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    pub(super) fn set_listener(&self, listener: Option<BorrowedFd<'_>>, is_on_stdin: bool) {
        self.listener.store(listener.map_or(-1, |fd| fd.as_raw_fd()), Ordering::Relaxed);
        self.listener_is_on_stdin.store(is_on_stdin, Ordering::Relaxed);
    }

    pub(super) fn set_origin(&self, file: &str) {
        self.origin.write(&[file.as_bytes()]);
    }

    // What the handler reads.

    /// Claims the replies for the caller. Returns what follows them, `Restart` or `Exit`; `None` if the handlers do not
    /// work for this process, or already reply.
    pub(super) fn claim(&self) -> Option<Mode> {
        if std::process::id() != self.owner.load(Ordering::Relaxed) {
            return None;
        }
        match self.mode.swap(Mode::Replying as u8, Ordering::AcqRel) {
            mode if mode == Mode::Restart as u8 => Some(Mode::Restart),
            mode if mode == Mode::Exit as u8 => Some(Mode::Exit),
            _ => None,
        }
    }

    /// What to restart in place.
    pub(super) fn image(&self) -> Option<&Image> {
        self.prepared.get()?.image.as_ref()
    }

    /// The file of crashes.
    pub(super) fn crashes(&self) -> Option<&CStr> {
        self.prepared.get()?.crashes.as_deref()
    }

    /// The listen socket, and whether it goes to descriptor 0.
    pub(super) fn listener(&self) -> Option<(RawFd, bool)> {
        let listener = self.listener.load(Ordering::Relaxed);
        (listener >= 0).then(|| (listener, self.listener_is_on_stdin.load(Ordering::Relaxed)))
    }

    /// Copies the launcher's file; returns its length.
    pub(super) fn origin(&self, to: &mut [u8]) -> usize {
        self.origin.read(to)
    }
}
