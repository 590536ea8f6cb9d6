//! Becoming another program in the same process: `execve(2)` on what was prepared beforehand, and what
//! passes across it.
//!
//! Everything that [`Image::exec`] and [`Words`] do is async-signal-safe and allocates nothing, so that a
//! handler of a fatal signal can do it too. Which words there are, and when, is decided in `exec.rs` and by
//! whoever calls.

use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::mapping::map;
use super::{SelfPipe, check};

/// The variable in which a program tells its successor in the same process what it leaves behind.
pub(crate) const VARIABLE: &str = "APP_SERVER_INHERITED";
const VARIABLE_PREFIX: &[u8] = b"APP_SERVER_INHERITED=";

/// The words whose value is a descriptor that passes across `execve(2)`.
pub(crate) const DESCRIPTOR_WORDS: [&str; 3] = ["listen", "keep", "drain"];

/// The word with the number of the process that the words are for. A child that inherits the variable by
/// mistake has another number, and takes nothing.
const PROCESS_WORD: &str = "pid";

/// What a new program is told, as `NAME=VALUE` words: a buffer of a fixed size, for it is written by signal
/// handlers too. (Its 16 KiB are much for an alternate stack: such a handler has it in a static.)
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

    /// The words as they are, with a blank between two.
    fn as_bytes(&self) -> &[u8] {
        &self.buffer[VARIABLE_PREFIX.len()..self.used]
    }

    /// The descriptors among the words.
    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.as_bytes().split(|byte| *byte == b' ').filter_map(|word| {
            let (name, value) = split_word(word)?;
            DESCRIPTOR_WORDS.iter().any(|known| known.as_bytes() == name).then_some(())?;
            parse_number(value)
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

fn parse_number(digits: &[u8]) -> Option<RawFd> {
    let mut number: RawFd = 0;
    for byte in digits {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number = number.checked_mul(10)?.checked_add(RawFd::from(digit))?;
    }
    (!digits.is_empty()).then_some(number)
}

/// A program to become, with its arguments and environment, prepared so that nothing has to be allocated
/// when the time has come. `Send` and `Sync`: a signal handler may find it in a static.
/// All of it is in a mapping of its own: code that writes past the end of its memory destroys the heap, so the
/// next image must not be there.
#[derive(Debug)]
pub struct Image {
    /// The mapping: both lists of pointers, each ending with a null pointer, then all strings.
    address: usize,
    length: usize,
    /// Where in it the path and the variables are. The arguments come first.
    path_at: usize,
    variables_at: usize,
    /// Where the pointer after the last variable is: room for one more.
    slot_at: usize,
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and nobody has a pointer into it any more.
        unsafe { libc::munmap(self.address as *mut c_void, self.length) };
    }
}

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
        let path = CString::new(path.as_os_str().as_bytes())?;
        let arguments = arguments.into_iter().map(|it| CString::new(it.as_ref().as_bytes()));
        let arguments: Vec<CString> = arguments.collect::<Result<_, _>>()?;
        let variables = environment.into_iter().filter(|(name, _)| name.as_ref() != VARIABLE);
        let variables = variables.map(|(name, value)| {
            let parts = [name.as_ref().as_bytes(), b"=", value.as_ref().as_bytes()];
            CString::new(parts.concat())
        });
        let variables: Vec<CString> = variables.collect::<Result<_, _>>()?;
        const POINTER: usize = size_of::<AtomicPtr<c_char>>();
        let variables_at = (arguments.len() + 1) * POINTER;
        let slot_at = variables_at + variables.len() * POINTER;
        // The slot is followed by a null pointer.
        let path_at = slot_at + 2 * POINTER;
        let strings = [&path].into_iter().chain(&arguments).chain(&variables);
        let length =
            path_at + strings.clone().map(|it| it.as_bytes_with_nul().len()).sum::<usize>();
        let address = map(length)? as usize;
        let mut at = address + path_at;
        let places = [None]
            .into_iter()
            .chain((0..arguments.len()).map(|index| Some(address + index * POINTER)))
            .chain(
                (0..variables.len()).map(|index| Some(address + variables_at + index * POINTER)),
            );
        for (string, place) in strings.zip(places) {
            let bytes = string.as_bytes_with_nul();
            // SAFETY: the fresh, zeroed mapping has room for all pointers and strings, and the pointers are
            // aligned in it.
            unsafe {
                ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len());
                if let Some(place) = place {
                    (place as *mut *const u8).write(at as *const u8);
                }
            }
            at += bytes.len();
        }
        Ok(Image { address, length, path_at, variables_at, slot_at })
    }

    /// Prepares this process' own program to be run anew, as it was started: the very file that runs, also
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
            return io::Error::from_raw_os_error(libc::E2BIG);
        }
        let used = words.used;
        // SAFETY: getpid cannot fail.
        let own = unsafe { libc::getpid() };
        words.number(PROCESS_WORD, own as u64);
        for fd in words.descriptors() {
            set_descriptor_flags(fd, 0);
        }
        let timers = Timers::off();
        let mask = block_for_exec();

        // The slot behind the variables; a handler that interrupts us here puts back what it found.
        // SAFETY: an aligned pointer in the mapping, which from now on is only changed by atomic stores.
        let slot = unsafe { &*((self.address + self.slot_at) as *const AtomicPtr<c_char>) };
        let before = slot.swap(words.buffer.as_mut_ptr().cast(), Ordering::AcqRel);
        let error = self.execute();
        slot.store(before, Ordering::Release);

        restore_mask(&mask);
        timers.on_again();
        for fd in words.descriptors() {
            set_descriptor_flags(fd, libc::FD_CLOEXEC);
        }
        words.buffer[used..words.used].fill(0);
        words.used = used;
        error
    }
}

impl Image {
    /// Becomes the program, without a word for it and without holding signals back: for a child process.
    ///
    /// Unlike std's `Command`, which leaves a file that is no program to `/bin/sh`, this runs nothing but
    /// programs.
    ///
    /// # Errors
    ///
    /// What `execve(2)` answers.
    pub fn exec_plainly(&self) -> io::Error {
        self.execute()
    }

    fn execute(&self) -> io::Error {
        let at = |offset: usize| self.address + offset;
        // SAFETY: the path and all strings end with a zero byte (of `words` one byte at least is never
        // written), both lists end with a null pointer, an AtomicPtr has the layout of a pointer, and all
        // of it outlives the call.
        unsafe {
            libc::execve(
                at(self.path_at) as *const c_char,
                at(0) as *const *const c_char,
                at(self.variables_at) as *const *const c_char,
            )
        };
        io::Error::last_os_error()
    }
}

/// Sets a descriptor's flags, if it is open.
fn set_descriptor_flags(fd: RawFd, flags: c_int) {
    // SAFETY: F_SETFD takes an integer and touches no memory.
    unsafe { libc::fcntl(fd, libc::F_SETFD, flags) };
}

/// The three interval timers as they were.
struct Timers([libc::itimerval; 3]);

const TIMERS: [c_int; 3] = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];

impl Timers {
    fn off() -> Self {
        // SAFETY: itimerval is plain integers, for which all-zero is a value: off.
        let (off, mut previous): (libc::itimerval, [libc::itimerval; 3]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        for (timer, previous) in TIMERS.into_iter().zip(&mut previous) {
            // SAFETY: both point to whole values that outlive the call.
            unsafe { libc::setitimer(timer, &raw const off, previous) };
        }
        Timers(previous)
    }

    fn on_again(&self) {
        for (timer, previous) in TIMERS.into_iter().zip(&self.0) {
            // SAFETY: the value was filled by setitimer; a null pointer: nobody wants the present one.
            unsafe { libc::setitimer(timer, previous, ptr::null_mut()) };
        }
    }
}

/// The signals that must not meet a program without its handlers: they would end it.
const HELD: [c_int; 5] = [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGCHLD, libc::SIGALRM];

/// The signals of faults: blocked, they could not even be handled.
const FAULTS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Blocks what must not come between two programs; returns the mask as it was.
fn block_for_exec() -> libc::sigset_t {
    let mut previous = change_mask(libc::SIG_BLOCK, &HELD);
    let without_faults = change_mask(libc::SIG_UNBLOCK, &FAULTS);
    if previous.is_none() {
        previous = without_faults;
    }
    previous.unwrap_or_else(empty_set)
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// `sigprocmask(2)`; returns the mask before.
fn change_mask(how: c_int, signals: &[c_int]) -> Option<libc::sigset_t> {
    let mut set = empty_set();
    for signal in signals {
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    let mut previous = MaybeUninit::uninit();
    // SAFETY: the set is initialised, and there is room for the previous mask.
    match unsafe { libc::sigprocmask(how, &raw const set, previous.as_mut_ptr()) } {
        // SAFETY: sigprocmask succeeded and has filled it.
        0 => Some(unsafe { previous.assume_init() }),
        _ => None,
    }
}

fn restore_mask(mask: &libc::sigset_t) {
    // SAFETY: the mask is initialised; a null pointer: nobody wants the present one.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// Holds back the signals that must not come between two programs, until it is dropped.
#[derive(Debug)]
pub struct Held(());

impl Held {
    /// Begins holding.
    pub fn begin() -> Held {
        change_mask(libc::SIG_BLOCK, &HELD);
        Held(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        release_signals();
    }
}

/// Unblocks the signals that [`Image::exec`] has blocked. To be called when the handlers stand.
pub fn release_signals() {
    change_mask(libc::SIG_UNBLOCK, &HELD);
    change_mask(libc::SIG_UNBLOCK, &FAULTS);
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
    if !matches!(crate::descriptors::task_count(), Ok(1) | Err(_)) {
        // Another thread may be reading the environment.
        return None;
    }
    // SAFETY: this is the only thread.
    unsafe { std::env::remove_var(VARIABLE) };
    let inherited = parse(&value)?;
    take_name_back();
    Some(inherited)
}

/// Restores the process name if the kernel took it from the path of [`Image::of_this_process`],
/// `/proc/self/exe`.
fn take_name_back() {
    const ROOM: usize = 16;
    let mut name = [0_u8; ROOM];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, and there is room for them.
    let known = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) } == 0;
    let called = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&called).file_name().unwrap_or_default().as_bytes();
    if !known || !name.starts_with(b"exe\0") || called.is_empty() {
        return;
    }
    // Followed by zero bytes; the last one is always zero.
    name.fill(0);
    let length = called.len().min(ROOM - 1);
    name[..length].copy_from_slice(&called[..length]);
    // SAFETY: PR_SET_NAME reads a string that ends with a zero byte.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
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
        let fd = parse_number(value).filter(|fd| *fd > 2 && !taken.contains(fd))?;
        // SAFETY: F_SETFD takes an integer and touches no memory; a descriptor that is not open is an error.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
        taken.push(fd);
        // SAFETY: it is open, and its number was left to us by this very process before it became this
        // program: nobody else here knows it. No number is taken twice.
        Some(Inherited::Descriptor(name_text, unsafe { OwnedFd::from_raw_fd(fd) }))
    });
    Some(inherited.collect())
}

/// Returns the numbers of this process' children, also of those it had before it became this program.
pub(crate) fn children() -> Vec<u32> {
    let own = std::process::id();
    // One file, where the kernel has it (since Linux 3.5, if so configured).
    if let Ok(text) = std::fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        return text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
    }
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| parent_of(*number) == Some(own)).collect()
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the name in parentheses, and may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Has SIGTERM sent to this process when the one that forked it ends (becoming another program is no end).
pub(crate) fn hear_of_parents_end(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes an integer.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) })?;
    // SAFETY: getppid cannot fail.
    if unsafe { libc::getppid() } != parent as libc::pid_t {
        return Err(io::Error::other("the original has ended"));
    }
    Ok(())
}

impl SelfPipe {
    /// Makes the pipe anew at the same numbers: in a copy of the process it is shared with the original.
    pub(crate) fn renew(&self) -> io::Result<()> {
        let (door, doorbell) = super::pipe()?;
        for (new, place) in [(door, &self.mailbox.door), (doorbell, &self.mailbox.doorbell)] {
            let place = place.load(Ordering::Acquire);
            // SAFETY: dup3 takes integers; the number is the mailbox's own and stays it.
            check(unsafe { libc::dup3(new.as_raw_fd(), place, libc::O_CLOEXEC) })?;
        }
        // Letters that were not taken may be in the old pipe's place: ring once.
        let doorbell = self.mailbox.doorbell.load(Ordering::Acquire);
        // SAFETY: the pointer is to one static byte.
        unsafe { libc::write(doorbell, b"!".as_ptr().cast(), 1) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::os::fd::AsFd;

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
        assert!(CStr::from_bytes_until_nul(&words.buffer).unwrap().to_bytes().ends_with(b"_7"));
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

    /// As code does that writes past the end of its memory.
    #[test]
    fn a_heap_that_is_destroyed_is_no_hindrance() {
        let arguments = ["sh", "-c", "exit 42"];
        let image = Image::prepare(Path::new("/bin/sh"), arguments, [("A", "b")]).unwrap();
        // SAFETY: glibc keeps its heap usable in the child, which has no other thread, and the child ends here.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let heap = own_heap();
            // SAFETY: it is mapped for writing. No destructor and no allocation follows: the process becomes another
            // one, or ends.
            unsafe { ptr::write_bytes(heap.start as *mut u8, b'A', heap.len()) };
            let error = image.exec(&mut Words::new());
            // SAFETY: takes a number.
            unsafe { libc::_exit(error.raw_os_error().unwrap_or(1)) };
        }
        let mut status = 0;
        // SAFETY: there is room for the status of a child that nobody else waits for.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42, "{status:#x}");
    }

    /// Where this thread's small allocations lie.
    fn own_heap() -> std::ops::Range<usize> {
        // glibc gives each thread but the first arenas of this size and alignment.
        const ARENA: usize = 64 << 20;
        let small = Box::into_raw(Box::new([0_u8; 16])) as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let heap = maps.lines().find_map(|line| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let end = usize::from_str_radix(end, 16).ok()?;
            (start..end).contains(&small).then(|| match line.ends_with("[heap]") {
                true => start..end,
                // What lies below may be a neighbour of the same kind.
                false => start.max(small & !(ARENA - 1))..end,
            })
        });
        heap.expect("the heap is mapped")
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
        let (end, _other) = crate::sys::pipe().unwrap();
        let mut words = Words::new();
        words.number("keep", end.as_raw_fd() as u64);
        let before = text(&words).to_owned();
        for _ in 0..2 {
            assert_eq!(image.exec(&mut words).kind(), io::ErrorKind::NotFound);
            assert_eq!(text(&words), before);
            let (close_on_exec, _) = crate::sys::flags(end.as_fd()).unwrap();
            assert!(close_on_exec);
        }
    }
}
