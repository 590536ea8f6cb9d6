//! Re-exec: executing another program in the same process (`execve(2)`), and what passes across it.
//!
//! The process keeps its pid, its open sockets and its signal mask. The handover state is in the variable
//! `APP_SERVER_INHERITED`: `NAME=VALUE` words separated by spaces.
//!
//! The caller names the words whose values are descriptors; [`Image::exec`] adds `pid=NUMBER`, the process that the
//! words are for. The meaning of all others is up to the two programs.
//!
//! [`Image::exec`] and [`HandoverWords`] are async-signal-safe and allocate nothing, so that a handler of a fatal
//! signal can use them too. The caller decides which words to pass, and when.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{self, Write as _};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use sys::descriptors::set_close_on_exec;
use sys::{descriptors, interval, signals};

pub use sys::signals::{Held, release_held as release_signals};

/// The variable that carries the handover state.
const VARIABLE: &str = "APP_SERVER_INHERITED";
const VARIABLE_PREFIX: &[u8] = b"APP_SERVER_INHERITED=";

/// The word with the pid of the process that the words are for. A child that inherits the variable by accident has
/// another pid, and takes nothing.
const PROCESS_WORD: &str = "pid";

/// The handover state as `NAME=VALUE` words, in a fixed-size buffer because signal handlers write it too. (Its 16 KiB
/// have to fit on the alternate stack.)
#[derive(Debug)]
pub struct HandoverWords {
    /// The whole variable, including its name; zero bytes after what is used.
    buffer: [u8; HandoverWords::CAPACITY],
    used: usize,
    /// The words whose values are descriptors that pass across `execve(2)`.
    descriptor_words: &'static [&'static str],
    /// Whether a word did not fit.
    overflowed: bool,
}

impl HandoverWords {
    /// The maximum size of the variable in bytes: room for some 1,400 descriptors.
    pub const CAPACITY: usize = 16 * 1024;

    /// Creates an empty list of words. `descriptor_words`: those whose values are descriptors.
    pub const fn new(descriptor_words: &'static [&'static str]) -> Self {
        let mut buffer = [0; HandoverWords::CAPACITY];
        let mut used = 0;
        while used < VARIABLE_PREFIX.len() {
            buffer[used] = VARIABLE_PREFIX[used];
            used += 1;
        }
        HandoverWords { buffer, used, descriptor_words, overflowed: false }
    }

    /// Adds a word with a descriptor, which passes across `execve(2)`. Returns whether it fitted.
    pub fn descriptor(&mut self, name: &str, fd: RawFd) -> bool {
        debug_assert!(self.descriptor_words.contains(&name), "{name}");
        self.number(name, fd as u64)
    }

    fn number(&mut self, name: &str, value: u64) -> bool {
        let mut digits = [0; 20];
        let mut rest = &mut digits[..];
        // The longest number has twenty digits. Formatting one allocates nothing.
        let _ = write!(rest, "{value}");
        let left = rest.len();
        self.add(name.as_bytes(), &digits[..20 - left])
    }

    /// Adds a word with a text, in which every byte except a-z, 0-9, `_` and `-` is replaced by `_`. Returns
    /// whether it fitted.
    pub fn text(&mut self, name: &str, value: &str) -> bool {
        let start = self.used;
        if !self.add(name.as_bytes(), value.as_bytes()) {
            return false;
        }
        let value_start = self.used - value.len();
        debug_assert!(value_start > start);
        for byte in &mut self.buffer[value_start..self.used] {
            if !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
                *byte = b'_';
            }
        }
        true
    }

    fn add(&mut self, name: &[u8], value: &[u8]) -> bool {
        let separator: &[u8] = if self.used > VARIABLE_PREFIX.len() { b" " } else { b"" };
        let length = separator.len() + name.len() + 1 + value.len();
        // 32 bytes stay free for `pid=NUMBER` and the final zero byte.
        if self.used + length + 32 > HandoverWords::CAPACITY {
            self.overflowed = true;
            return false;
        }
        for part in [separator, name, b"=", value] {
            self.buffer[self.used..self.used + part.len()].copy_from_slice(part);
            self.used += part.len();
        }
        true
    }

    /// Returns whether there is room for another word of up to 64 bytes.
    pub fn has_room(&self) -> bool {
        self.used + 64 + 32 <= HandoverWords::CAPACITY
    }

    /// Returns whether every word so far fitted.
    pub fn are_complete(&self) -> bool {
        !self.overflowed
    }

    /// Returns the whole variable. A zero byte always follows what is used.
    fn variable(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.buffer).unwrap_or(c"")
    }

    /// Returns the words, separated by spaces.
    fn as_bytes(&self) -> &[u8] {
        &self.buffer[VARIABLE_PREFIX.len()..self.used]
    }

    /// Returns the words as text, separated by spaces.
    pub fn as_text(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Returns the descriptors among the words.
    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.as_bytes().split(|byte| *byte == b' ').filter_map(|word| {
            let (name, value) = split_word(word)?;
            self.descriptor_words.iter().any(|known| known.as_bytes() == name).then_some(())?;
            descriptors::number(value)
        })
    }
}

fn split_word(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = word.iter().position(|byte| *byte == b'=')?;
    Some((&word[..at], &word[at + 1..]))
}

/// A program to execute, with its arguments and environment, prepared so that [`exec`](Self::exec) allocates nothing.
/// `Send` and `Sync`, so that a signal handler can find it in a static.
#[derive(Debug)]
pub struct Image(sys::exec::Image);

impl Image {
    /// Prepares the program at a path, with its arguments (including argument 0) and its environment, from which
    /// `APP_SERVER_INHERITED` is removed.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if any of it contains a zero byte; `OutOfMemory`.
    pub fn prepare<A, N, V>(
        path: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: impl IntoIterator<Item = (N, V)>,
    ) -> io::Result<Image>
    where
        A: AsRef<OsStr>,
        N: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let environment = environment.into_iter().filter(|(name, _)| name.as_ref() != VARIABLE);
        sys::exec::Image::prepare(path, arguments, environment).map(Image)
    }

    /// Prepares this process's own program, with the arguments and environment it was started with. Executes the file
    /// that is running now, even if its path has been replaced in the meantime.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`.
    pub fn of_this_process() -> io::Result<Image> {
        Image::prepare(Path::new("/proc/self/exe"), std::env::args_os(), std::env::vars_os())
    }

    /// Replaces this process's program; returns only if that failed, and then everything is as it was.
    ///
    /// The descriptors among the words pass across; all others are close-on-exec. Interval timers are stopped first,
    /// because they would keep running without their handlers. SIGTERM, SIGHUP, SIGINT, SIGCHLD and SIGALRM are
    /// blocked: they stay pending until the new program has installed its handlers and calls [`release_signals`].
    /// Signals of faults are unblocked, because a handler of one may call this.
    ///
    /// Async-signal-safe. Standard output's buffer is not flushed.
    ///
    /// # Errors
    ///
    /// Any from `execve(2)`: ETXTBSY (`ExecutableFileBusy`) while the file is open for writing. E2BIG if a word did
    /// not fit.
    pub fn exec(&self, words: &mut HandoverWords) -> io::Error {
        if words.overflowed {
            return Errno::TOOBIG.into();
        }
        let used = words.used;
        words.number(PROCESS_WORD, u64::from(std::process::id()));
        set_all_close_on_exec(words, false);
        let timers = interval::suspend_all();
        let mask = signals::hold_for_exec();

        let error = self.0.exec_with(words.variable());

        mask.restore();
        timers.resume();
        set_all_close_on_exec(words, true);
        words.buffer[used..words.used].fill(0);
        words.used = used;
        error
    }

    /// Replaces this process's program without handover state and without blocking signals: for a child process, started by
    /// [`Command::of`](crate::Command::of). Async-signal-safe.
    ///
    /// # Errors
    ///
    /// Any from `execve(2)`.
    pub(crate) fn exec_plainly(&self) -> io::Error {
        self.0.exec()
    }
}

/// Sets or clears close-on-exec for the descriptors among the words, as far as they are open.
fn set_all_close_on_exec(words: &HandoverWords, close: bool) {
    for fd in words.descriptors() {
        let _ = set_close_on_exec(fd, close);
    }
}

/// One word of the handover state.
#[derive(Debug)]
pub enum InheritedWord {
    /// A descriptor, close-on-exec again.
    Descriptor(String, OwnedFd),
    /// Anything else.
    Text(String, String),
}

/// Takes the handover state that the previous program in this process has left; `None` if there is none.
/// `descriptor_words`: the words whose values are descriptors.
///
/// Call it on startup, before anything is opened. What there was is taken once: the variable is removed from the
/// environment, unless there is another thread already, which may be reading it; a child that gets it then has another pid,
/// and takes nothing. It also restores the process name, which `ps` and `top` show.
pub fn take_inherited(descriptor_words: &[&str]) -> Option<Vec<InheritedWord>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let value = std::env::var_os(VARIABLE)?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    sys::environment::remove_at_start(VARIABLE.as_ref());
    let inherited = parse(&value, descriptor_words)?;
    restore_process_name();
    Some(inherited)
}

/// Restores the process name if the kernel took it from the path of [`Image::of_this_process`],
/// `/proc/self/exe`.
fn restore_process_name() {
    let program = std::env::args_os().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().as_bytes();
    let is_taken_from_path = rustix::thread::name().is_ok_and(|name| name.as_c_str() == c"exe");
    if is_taken_from_path && !program.is_empty() {
        // The kernel keeps the first 15 bytes. A wrong name does no harm.
        let _ = CString::new(program).map(|name| rustix::thread::set_name(&name));
    }
}

/// Parses the words and takes the descriptors; `None` if they are for another process.
fn parse(value: &OsString, descriptor_words: &[&str]) -> Option<Vec<InheritedWord>> {
    let words = || {
        let words = value.as_bytes().split(|byte| *byte == b' ');
        words.filter_map(split_word)
    };
    let own = std::process::id().to_string();
    words().find(|(name, to)| *name == PROCESS_WORD.as_bytes() && *to == own.as_bytes())?;
    let mut taken = Vec::new();
    let inherited = words().filter_map(|(name, value)| {
        let name_text = String::from_utf8_lossy(name).into_owned();
        if !descriptor_words.contains(&name_text.as_str()) {
            let value = String::from_utf8_lossy(value).into_owned();
            return Some(InheritedWord::Text(name_text, value));
        }
        let fd = descriptors::number(value).filter(|fd| *fd > 2 && !taken.contains(fd))?;
        // The previous program in this process left this number to us, and nothing else here knows it. No number is
        // taken twice.
        let descriptor = descriptors::take(fd)?;
        taken.push(fd);
        Some(InheritedWord::Descriptor(name_text, descriptor))
    });
    Some(inherited.collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    const DESCRIPTOR_WORDS: &[&str] = &["listen", "keep"];

    #[test]
    fn words_are_encoded_and_sanitized() {
        let mut words = HandoverWords::new(DESCRIPTOR_WORDS);
        assert!(words.descriptor("listen", 10));
        assert!(words.descriptor("keep", 0));
        assert!(words.text("why", "crashed"));
        assert!(words.text("label", "Ä b=c\n7"));
        assert_eq!(words.as_text(), "listen=10 keep=0 why=crashed label=___b_c_7");
        assert_eq!(words.descriptors().collect::<Vec<_>>(), [10, 0]);
        assert!(words.variable().to_bytes().ends_with(b"_7"));
    }

    #[test]
    fn words_that_do_not_fit_are_refused_and_prevent_the_exec() {
        let mut words = HandoverWords::new(DESCRIPTOR_WORDS);
        while words.descriptor("keep", 12345) {}
        assert!(!words.are_complete());
        assert!(words.used < HandoverWords::CAPACITY - 16);
        assert!(words.as_text().ends_with("keep=12345"));
        let image = Image::of_this_process().unwrap();
        assert_eq!(image.exec(&mut words).raw_os_error(), Some(libc::E2BIG));
    }

    #[test]
    fn words_for_another_process_are_not_taken() {
        assert!(parse(&"keep=0 pid=1".into(), DESCRIPTOR_WORDS).is_none());
        assert!(parse(&"keep=0".into(), DESCRIPTOR_WORDS).is_none());
        // Standard descriptors and those that are not open are not taken.
        let own = std::process::id();
        let words = parse(
            &format!("keep=1 keep=99999 keep=x why=renewed pid={own}").into(),
            DESCRIPTOR_WORDS,
        );
        let words = words.unwrap();
        let shown = format!("{words:?}");
        assert_eq!(shown, format!("[Text(\"why\", \"renewed\"), Text(\"pid\", \"{own}\")]"));
    }

    #[test]
    fn a_failed_exec_changes_nothing() {
        let image = Image::prepare(Path::new("/no/such/program"), ["x"], [("A", "b")]).unwrap();
        let (end, _other) = event_loop::pipe::ends().unwrap();
        let mut words = HandoverWords::new(DESCRIPTOR_WORDS);
        words.descriptor("keep", end.as_raw_fd());
        let before = words.as_text().to_owned();
        for _ in 0..2 {
            assert_eq!(image.exec(&mut words).kind(), io::ErrorKind::NotFound);
            assert_eq!(words.as_text(), before);
            let flags = rustix::io::fcntl_getfd(&end).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }
}
