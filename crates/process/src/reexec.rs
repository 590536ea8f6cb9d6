//! Becoming another program in the same process (`execve(2)`), and what passes across it.
//!
//! The process keeps its number, its open sockets and its signal mask; everything else is the new program's.
//! What it is told stands in the variable `APP_SERVER_INHERITED`, as words with blanks between:
//!
//! Words whose value is a descriptor are [`DESCRIPTOR_WORDS`]; `pid=NUMBER`, the process they are for, is added by
//! [`Image::exec`]. All others mean what the two programs have agreed on.
//!
//! Everything that [`Image::exec`] and [`Words`] do is async-signal-safe and allocates nothing, so that a
//! handler of a fatal signal can do it too. Which words there are, and when, is decided by whoever calls.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::io::Errno;
use sys::descriptors::set_close_on_exec;
use sys::{descriptors, interval, signals};

pub use sys::signals::{Held, release_held as release_signals};

/// The variable in which a program tells its successor in the same process what it leaves behind.
const VARIABLE: &str = "APP_SERVER_INHERITED";
const VARIABLE_PREFIX: &[u8] = b"APP_SERVER_INHERITED=";

/// The words whose value is a descriptor that passes across `execve(2)`. Earlier versions of a program know them by
/// these names.
pub const DESCRIPTOR_WORDS: [&str; 3] = ["listen", "keep", "drain"];

/// The word with the number of the process that the words are for. A child that inherits the variable by
/// mistake has another number, and takes nothing.
const PROCESS_WORD: &str = "pid";

/// What a new program is told, as `NAME=VALUE` words: a buffer of a fixed size, for it is written by signal
/// handlers too. (Its 16 KiB have to fit on the alternate stack.)
#[derive(Debug)]
pub struct Words {
    /// The whole variable, `NAME=…`; zero bytes behind what is used.
    buffer: [u8; Words::ROOM],
    used: usize,
    /// A word did not fit.
    overflowed: bool,
}

impl Words {
    /// The bytes of the variable at most: about a thousand descriptors.
    pub const ROOM: usize = 16 * 1024;

    /// No words but the one that says which process they are for.
    pub const fn new() -> Self {
        let mut buffer = [0; Words::ROOM];
        let mut used = 0;
        while used < VARIABLE_PREFIX.len() {
            buffer[used] = VARIABLE_PREFIX[used];
            used += 1;
        }
        Words { buffer, used, overflowed: false }
    }

    /// Adds a word with a number: a descriptor's, say. Says whether there was room.
    pub fn number(&mut self, name: &str, value: u64) -> bool {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = value;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.add(name.as_bytes(), &digits[at..])
    }

    /// Adds a word with a text. What is no letter a-z, digit, `_` or `-` becomes `_`. Says whether there
    /// was room.
    pub fn text(&mut self, name: &str, value: &str) -> bool {
        let from = self.used;
        if !self.add(name.as_bytes(), value.as_bytes()) {
            return false;
        }
        let value_begins = self.used - value.len();
        debug_assert!(value_begins > from);
        for byte in &mut self.buffer[value_begins..self.used] {
            if !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
                *byte = b'_';
            }
        }
        true
    }

    fn add(&mut self, name: &[u8], value: &[u8]) -> bool {
        let separator: &[u8] = if self.used > VARIABLE_PREFIX.len() { b" " } else { b"" };
        let length = separator.len() + name.len() + 1 + value.len();
        // One zero byte ends it, and the process' own word comes last.
        if self.used + length + 32 > Words::ROOM {
            self.overflowed = true;
            return false;
        }
        for part in [separator, name, b"=", value] {
            self.buffer[self.used..self.used + part.len()].copy_from_slice(part);
            self.used += part.len();
        }
        true
    }

    /// Whether another word of ordinary length has room.
    pub fn has_room(&self) -> bool {
        self.used + 64 + 32 <= Words::ROOM
    }

    /// Whether every word had room so far.
    pub fn are_whole(&self) -> bool {
        !self.overflowed
    }

    /// The whole variable. A zero byte is always left behind what is used.
    fn variable(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.buffer).unwrap_or(c"")
    }

    /// The words as they are, with a blank between two.
    fn as_bytes(&self) -> &[u8] {
        &self.buffer[VARIABLE_PREFIX.len()..self.used]
    }

    /// The words as text, with a blank between two.
    pub fn as_text(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The descriptors among the words.
    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.as_bytes().split(|byte| *byte == b' ').filter_map(|word| {
            let (name, value) = split_word(word)?;
            DESCRIPTOR_WORDS.iter().any(|known| known.as_bytes() == name).then_some(())?;
            descriptors::number(value)
        })
    }
}

impl Default for Words {
    fn default() -> Self {
        Words::new()
    }
}

fn split_word(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = word.iter().position(|byte| *byte == b'=')?;
    Some((&word[..at], &word[at + 1..]))
}

/// A program to become, with its arguments and environment, prepared so that nothing has to be allocated
/// when the time has come. `Send` and `Sync`: a signal handler may find it in a static.
#[derive(Debug)]
pub struct Image(sys::exec::Image);

impl Image {
    /// Prepares a program by its path, with its arguments (the first is the name it is called by) and its
    /// environment. `APP_SERVER_INHERITED` is left out of that.
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

    /// Prepares this process' own program to be run again, as it was started: the very file that runs, also
    /// when another lies at its path by now.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`.
    pub fn of_this_process() -> io::Result<Image> {
        Image::prepare(Path::new("/proc/self/exe"), std::env::args_os(), std::env::vars_os())
    }

    /// Becomes the program: returns only when that failed, and then everything is as it was.
    ///
    /// The descriptors named by `listen`, `keep` and `drain` pass across; the others are close-on-exec.
    /// Interval timers are switched off before, for they would go on, without their handlers. SIGTERM,
    /// SIGHUP, SIGINT, SIGCHLD and SIGALRM are blocked: they wait until the new program has its handlers
    /// and calls [`take_inherited`]; signals of faults are unblocked (a handler of one may call this).
    ///
    /// Async-signal-safe. Standard output's buffer is not flushed.
    ///
    /// # Errors
    ///
    /// What `execve(2)` answers: ETXTBSY (`ExecutableFileBusy`) while somebody has the file open for
    /// writing; E2BIG when a word had no room.
    pub fn exec(&self, words: &mut Words) -> io::Error {
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

    /// Becomes the program, without a word for it and without holding signals back: for a child process.
    ///
    /// Unlike std's `Command`, which leaves a file that is no program to `/bin/sh`, this runs nothing but
    /// programs.
    ///
    /// # Errors
    ///
    /// What `execve(2)` answers.
    pub fn exec_plainly(&self) -> io::Error {
        self.0.exec()
    }
}

/// Sets the flag of the descriptors among the words, as far as they are open.
fn set_all_close_on_exec(words: &Words, close: bool) {
    for fd in words.descriptors() {
        let _ = set_close_on_exec(fd, close);
    }
}

/// What one word told.
#[derive(Debug)]
pub enum Inherited {
    /// A descriptor, close-on-exec again.
    Descriptor(String, OwnedFd),
    /// Anything else.
    Text(String, String),
}

/// Takes what the program before this one in the same process has left; `None` when there was none.
///
/// To be called once, at the start, before anything is opened and while there is one thread: it removes
/// the variable from the environment, so that no child takes it for its own. `ps` and `top` show the
/// process by the name that it was started with.
pub fn take_inherited() -> Option<Vec<Inherited>> {
    let value = std::env::var_os(VARIABLE)?;
    // Another thread may be reading the environment.
    if !sys::environment::remove_at_start(VARIABLE.as_ref()) {
        return None;
    }
    let inherited = parse(&value)?;
    take_name_back();
    Some(inherited)
}

/// Restores the process name if the kernel took it from the path of [`Image::of_this_process`],
/// `/proc/self/exe`.
fn take_name_back() {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&called).file_name().unwrap_or_default().as_bytes();
    let is_taken_from_path = rustix::thread::name().is_ok_and(|name| name.as_c_str() == c"exe");
    if is_taken_from_path && !called.is_empty() {
        // The kernel keeps the first 15 bytes.
        let _ = CString::new(called).map(|name| rustix::thread::set_name(&name));
    }
}

/// Reads the words and takes the descriptors; `None` when they are for another process.
fn parse(value: &OsString) -> Option<Vec<Inherited>> {
    let words = || {
        let words = value.as_bytes().split(|byte| *byte == b' ');
        words.filter_map(split_word)
    };
    let own = std::process::id().to_string();
    words().find(|(name, to)| *name == PROCESS_WORD.as_bytes() && *to == own.as_bytes())?;
    let mut taken = Vec::new();
    let inherited = words().filter_map(|(name, value)| {
        let name_text = String::from_utf8_lossy(name).into_owned();
        if !DESCRIPTOR_WORDS.contains(&name_text.as_str()) {
            let value = OsString::from_vec(value.to_owned()).to_string_lossy().into_owned();
            return Some(Inherited::Text(name_text, value));
        }
        let fd = descriptors::number(value).filter(|fd| *fd > 2 && !taken.contains(fd))?;
        // Its number was left to us by this very process before it became this program: nobody else here
        // knows it. No number is taken twice.
        let descriptor = descriptors::take(fd)?;
        taken.push(fd);
        Some(Inherited::Descriptor(name_text, descriptor))
    });
    Some(inherited.collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn text(words: &Words) -> &str {
        std::str::from_utf8(words.as_bytes()).unwrap()
    }

    #[test]
    fn words_are_written_without_surprises() {
        let mut words = Words::new();
        assert!(words.number("listen", 10));
        assert!(words.number("keep", 0));
        assert!(words.text("why", "crashed"));
        assert!(words.text("label", "Ä b=c\n7"));
        assert_eq!(text(&words), "listen=10 keep=0 why=crashed label=___b_c_7");
        assert_eq!(words.descriptors().collect::<Vec<_>>(), [10, 0]);
        assert!(words.variable().to_bytes().ends_with(b"_7"));
    }

    #[test]
    fn what_has_no_room_is_refused_and_noted() {
        let mut words = Words::new();
        while words.number("keep", 12345) {}
        assert!(!words.are_whole());
        assert!(words.used < Words::ROOM - 16);
        assert!(text(&words).ends_with("keep=12345"));
        let image = Image::of_this_process().unwrap();
        assert_eq!(image.exec(&mut words).raw_os_error(), Some(libc::E2BIG));
    }

    #[test]
    fn words_for_another_process_are_not_taken() {
        assert!(parse(&"keep=0 pid=1".into()).is_none());
        assert!(parse(&"keep=0".into()).is_none());
        // A standard descriptor and one that is not open are nobody's to take.
        let own = std::process::id();
        let words = parse(&format!("keep=1 keep=99999 keep=x why=renewed pid={own}").into());
        let words = words.unwrap();
        let shown = format!("{words:?}");
        assert_eq!(shown, format!("[Text(\"why\", \"renewed\"), Text(\"pid\", \"{own}\")]"));
    }

    #[test]
    fn a_failed_exec_leaves_all_as_it_was() {
        let image = Image::prepare(Path::new("/no/such/program"), ["x"], [("A", "b")]).unwrap();
        let (end, _other) = event_loop::pipe::ends().unwrap();
        let mut words = Words::new();
        words.number("keep", end.as_raw_fd() as u64);
        let before = text(&words).to_owned();
        for _ in 0..2 {
            assert_eq!(image.exec(&mut words).kind(), io::ErrorKind::NotFound);
            assert_eq!(text(&words), before);
            let flags = rustix::io::fcntl_getfd(&end).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }
}
