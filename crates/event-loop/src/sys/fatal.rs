//! The handler of fatal signals: answers whoever waits, writes a line to the log, starts the program anew.
//!
//! It runs at any moment, in the middle of `malloc` and on a broken heap. So it calls async-signal-safe
//! functions alone (signal-safety(7)), reads the tables of `fatal.rs` and memory that was made read-only
//! beforehand, and runs on a stack of its own. All signals are blocked meanwhile: should it crash itself,
//! the kernel ends the process.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ffi::{CString, c_int, c_void};
use std::fmt::{self, Write as _};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use super::mapping::map;
use super::unblocked::{errno, write_all, write_within};
use super::{PreviousAction, check, interval, memory};
use crate::exec::{Image, Words};
use crate::fatal::{
    Answers, CONNECTION_PLACES, CONNECTION_ROWS, ConnectionRow, ENDING, EXCHANGE_PLACES,
    EXCHANGE_ROWS, ExchangeRow, INSTALLED, Installation, LISTENER, LISTENER_AT_STDIN, NO_PLACE,
    RAN_LAST, REFERENCE, RUNNING, StoredAnswer, WAYS, WORD, WORD_NAME, Way, read_text,
};

/// What the handler is for. A program that is stuck comes here from `interval.rs`.
const SIGNALS: [c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// What the handler itself needs of a stack, beside the frame in which the kernel keeps the registers:
/// that one takes 1 to 12 KiB, as the processor's vectors are wide.
const STACK_BYTES: usize = 128 * 1024;

/// How long all others together are waited for that do not take what they are sent.
const PATIENCE_MILLISECONDS: i64 = 2000;

/// How many connections are handed to the next image at most: what has room in the words, at 12 bytes each.
/// Those beyond are closed.
const HANDED_OVER: u32 = 1200;

// ---------------------------------------------------------------------------------------------------
// Beforehand.

/// The process that the handler works for: a child that inherited it has nobody to answer.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// The image and the file of crashes. Set once; a second installation of one process keeps them.
static AFTERWARDS: OnceLock<Afterwards> = OnceLock::new();
static STACK: AtomicUsize = AtomicUsize::new(0);

struct Afterwards {
    image: Option<Image>,
    crashes: Option<CString>,
}

/// Keeps the handlers installed.
#[derive(Debug)]
pub struct Guard {
    previous: Vec<(c_int, PreviousAction)>,
}

impl Guard {
    pub(crate) fn new(installation: Installation) -> io::Result<Guard> {
        let crashes = installation
            .crashes
            .map(|file| CString::new(file.as_os_str().as_bytes()))
            .transpose()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        AFTERWARDS.get_or_init(|| Afterwards { image: installation.image, crashes });
        make_stack()?;
        own();
        // Grows signal by signal, so that a failure gives back exactly what was taken.
        let mut guard = Guard { previous: Vec::with_capacity(SIGNALS.len()) };
        for signal in SIGNALS {
            guard.previous.push((signal, set_handler(signal)?));
        }
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for (signal, previous) in &self.previous {
            let restored = super::restore_action(*signal, previous);
            debug_assert!(restored.is_ok(), "signal {signal} was not given back: {restored:?}");
        }
        INSTALLED.store(false, Ordering::Relaxed);
    }
}

/// Makes the handler work for this process.
pub(crate) fn own() {
    // SAFETY: getpid takes nothing and cannot fail.
    OWNER.store(unsafe { libc::getpid() }, Ordering::Relaxed);
}

/// Makes the stack for handlers, once a process, with a page below it that cannot be touched.
fn make_stack() -> io::Result<()> {
    if STACK.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    // SAFETY: getauxval takes a number; 0 means that the kernel does not tell.
    let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    // SAFETY: sysconf takes a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let size = (frame.max(libc::MINSIGSTKSZ) + STACK_BYTES).next_multiple_of(page);
    let memory = map(size + page)?;
    // SAFETY: the page is the first of the mapping that was just made; nobody uses it.
    check(unsafe { libc::mprotect(memory, page, libc::PROT_NONE) })?;
    let stack = libc::stack_t { ss_sp: memory.wrapping_byte_add(page), ss_flags: 0, ss_size: size };
    // SAFETY: the stack is a mapping of that size that is never unmapped.
    check(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) })?;
    STACK.store(memory as usize, Ordering::Relaxed);
    Ok(())
}

fn set_handler(signal: c_int) -> io::Result<PreviousAction> {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fatal;
    // SAFETY: sigaction is plain integers and an optional function pointer: all-zero is a value.
    let mut new: libc::sigaction = unsafe { mem::zeroed() };
    new.sa_sigaction = handler as libc::sighandler_t;
    new.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO;
    // SAFETY: sa_mask is a whole signal set.
    unsafe { libc::sigfillset(&raw mut new.sa_mask) };
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `new` is initialised, and with SA_SIGINFO its handler has the right type; `previous` has
    // room for the answer.
    check(unsafe { libc::sigaction(signal, &raw const new, previous.as_mut_ptr()) })?;
    // SAFETY: sigaction succeeded and has filled it.
    Ok(PreviousAction(unsafe { previous.assume_init() }))
}

/// The prepared answers: a row a way in.
static ANSWERS: [StoredAnswers; WAYS] = [const {
    StoredAnswers {
        failed: StoredAnswer::none(),
        interrupted: StoredAnswer::none(),
        stuck: StoredAnswer::none(),
        cut: StoredAnswer::none(),
        cut_when_alone: AtomicBool::new(false),
    }
}; WAYS];

struct StoredAnswers {
    failed: StoredAnswer,
    interrupted: StoredAnswer,
    stuck: StoredAnswer,
    cut: StoredAnswer,
    cut_when_alone: AtomicBool,
}

/// Puts answers where the handler finds them, in memory that only reading is allowed to.
pub(crate) fn prepare(way: Way, answers: &Answers) -> io::Result<()> {
    let stored = &ANSWERS[way as usize];
    let none = crate::fatal::Answer::default();
    for (stored, answer) in [
        (&stored.failed, &answers.failed),
        (&stored.interrupted, &answers.interrupted),
        (&stored.stuck, &answers.stuck),
        (&stored.cut, answers.cut.as_ref().unwrap_or(&none)),
    ] {
        store(stored, answer)?;
    }
    stored.cut_when_alone.store(answers.cut_when_alone, Ordering::Relaxed);
    Ok(())
}

fn store(stored: &StoredAnswer, answer: &crate::fatal::Answer) -> io::Result<()> {
    let (old, old_length) =
        (stored.address.swap(0, Ordering::AcqRel), stored.length.load(Ordering::Relaxed));
    if old != 0 {
        // SAFETY: `old` is a mapping of that length from below; the handler no longer finds it.
        check(unsafe { libc::munmap(old as *mut c_void, old_length) })?;
    }
    let bytes = &answer.bytes;
    if bytes.is_empty() {
        return Ok(());
    }
    let memory = map(bytes.len())?;
    // SAFETY: the fresh mapping has room for so many bytes and overlaps nothing.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast(), bytes.len()) };
    // SAFETY: the mapping is ours, and nobody writes to it from now on.
    check(unsafe { libc::mprotect(memory, bytes.len(), libc::PROT_READ) })?;
    let mut references = bytes
        .windows(REFERENCE.len())
        .enumerate()
        .filter(|(_, window)| *window == REFERENCE.as_bytes())
        .map(|(at, _)| at as u32);
    for place in &stored.references {
        place.store(references.next().unwrap_or(NO_PLACE), Ordering::Relaxed);
    }
    let mut ids = answer.ids.iter().filter(|at| **at + 2 <= bytes.len()).map(|at| *at as u32);
    for place in &stored.ids {
        place.store(ids.next().unwrap_or(NO_PLACE), Ordering::Relaxed);
    }
    let without_body = answer.without_body.unwrap_or(bytes.len()).min(bytes.len());
    stored.without_body.store(without_body, Ordering::Relaxed);
    stored.length.store(bytes.len(), Ordering::Relaxed);
    stored.address.store(memory as usize, Ordering::Release);
    Ok(())
}

// ---------------------------------------------------------------------------------------------------
// The handler.

/// It has begun: a second time nothing is tried.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Why the process cannot go on.
#[derive(Clone, Copy)]
enum Cause {
    Signal {
        name: &'static str,
        address: Option<usize>,
        stack: Option<usize>,
    },
    /// No memory was left for so many bytes.
    Memory(usize),
    /// The loop has not come round for so many ticks.
    Stuck(u32),
}

extern "C" fn on_fatal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a whole siginfo_t to a handler with SA_SIGINFO.
    let (code, sender) = unsafe { ((*info).si_code, (*info).si_pid()) };
    let is_fault = code > 0 && signal != libc::SIGABRT;
    // SAFETY: of a fault the kernel tells the address.
    let address = is_fault.then(|| unsafe { (*info).si_addr() } as usize);
    // SAFETY: getpid takes nothing and cannot fail.
    let from_outside = code == libc::SI_USER && sender != unsafe { libc::getpid() };
    let memory = memory::failed_in_this_turn();
    let cause = match signal {
        libc::SIGABRT if memory > 0 => Cause::Memory(memory),
        _ => Cause::Signal { name: name(signal), address, stack: stack_pointer(context) },
    };
    let nobody_asked = in_flight() == 0 && RUNNING.load(Ordering::Relaxed) == 0;
    if !(from_outside && nobody_asked) {
        give_up(cause);
    }
    // Still here: the signal does what it does by default, when it is unblocked by the return.
    // SAFETY: signal-safe; SIG_DFL is a valid action, and the process is ours.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        if !is_fault {
            libc::kill(libc::getpid(), signal);
        }
    }
}

/// The loop has not come round for so many ticks; called by the handler of the timer's signal, with all
/// signals blocked. When there is nothing to be done, it ends the process.
pub(super) fn on_stuck(ticks: u32) {
    give_up(Cause::Stuck(ticks));
    // SAFETY: signal-safe.
    unsafe { libc::_exit(1) };
}

/// Answers everybody and starts anew. Returns when that is not to be, or not possible.
fn give_up(cause: Cause) {
    // SAFETY: getpid takes nothing and cannot fail.
    if unsafe { libc::getpid() } != OWNER.load(Ordering::Relaxed)
        || RAN_LAST.load(Ordering::Relaxed) == 0
        || BUSY.swap(true, Ordering::AcqRel)
    {
        return;
    }
    interval::disarm();
    let mut reference = [0; REFERENCE.len()];
    let now = Time::now();
    now.reference(&mut reference);
    let is_stuck = matches!(cause, Cause::Stuck(_));
    // SAFETY: only this handler uses it, and BUSY lets nobody in a second time.
    let words = unsafe { &mut *WORDS.0.get() };
    words.text("why", if is_stuck { "stuck" } else { "crashed" });
    hand_over_listener(words);
    if let Some(name) = WORD_NAME.get() {
        let mut value = [0; 64];
        let length = read_text(&WORD, &mut value);
        words.text(name, std::str::from_utf8(&value[..length]).unwrap_or(""));
    }

    let running = RUNNING.load(Ordering::Relaxed);
    let culprit = running.checked_sub(1).and_then(|index| EXCHANGE_ROWS.get(index as usize));
    write_to_log(cause, culprit, &now, &reference);
    if let Some(culprit) = culprit {
        let mut label = [0; crate::fatal::LABEL_BYTES];
        let length = read_text(&culprit.label, &mut label);
        if length > 0 {
            words.text("label", std::str::from_utf8(&label[..length]).unwrap_or("unknown"));
            note_crash(&label[..length], &now);
        }
    }

    let mut settling = Settling {
        culprit: running,
        is_stuck,
        reference,
        milliseconds_left: PATIENCE_MILLISECONDS,
        handed_over: 0,
        words,
    };
    let touched = CONNECTION_PLACES.touched.load(Ordering::Relaxed) as usize;
    let mut alone = false;
    for (index, row) in CONNECTION_ROWS.iter().enumerate().take(touched) {
        if row.descriptor.load(Ordering::Acquire) >= 0 {
            alone |= row.way.load(Ordering::Relaxed) == Way::Cgi as u8;
            settling.settle(index as u32, row);
        }
    }
    let image = AFTERWARDS.get().and_then(|afterwards| afterwards.image.as_ref());
    let Some(image) = image.filter(|_| !alone && !ENDING.load(Ordering::Relaxed)) else {
        // SAFETY: signal-safe.
        unsafe { libc::_exit(1) };
    };
    memory::lift_limit();
    block_for_the_next_image();
    let error = try_repeatedly(
        || image.exec(settling.words).raw_os_error().unwrap_or(0),
        // SAFETY: signal-safe; of no descriptors none is read or written.
        || unsafe { _ = libc::poll(ptr::null_mut(), 0, EXEC_PAUSE_MILLISECONDS) },
    );
    let mut line = Text::<256>::new();
    now.write(&mut line);
    let _ = writeln!(line, " ERROR The program could not restart in place (os error {error}).");
    // When nobody takes it there is nobody to tell.
    let _ = write_within(libc::STDERR_FILENO, line.written(), PATIENCE_FOR_LOG_MILLISECONDS);
}

/// Memory or descriptors may be short for a moment, and clients that wait at the listening socket depend on
/// this process.
const EXEC_TRIES: u32 = 5;

const EXEC_PAUSE_MILLISECONDS: c_int = 50;

/// Tries to execute the next image, again after a pause when why it failed may pass. Returns the last errno.
fn try_repeatedly(mut exec: impl FnMut() -> c_int, mut pause: impl FnMut()) -> c_int {
    for _ in 1..EXEC_TRIES {
        match exec() {
            // No program, or more variables than the system takes, now and later.
            error @ (libc::ENOENT | libc::EACCES | libc::ENOEXEC | libc::E2BIG) => return error,
            _ => pause(),
        }
    }
    exec()
}

/// How many exchanges there are.
fn in_flight() -> u32 {
    EXCHANGE_PLACES.taken.load(Ordering::Relaxed)
}

/// What is handed to the next image. Static, for it is large.
static WORDS: OnlyOnce<Words> = OnlyOnce(UnsafeCell::new(Words::new()));

struct OnlyOnce<T>(UnsafeCell<T>);

// SAFETY: only the handler uses it, and only once: see BUSY.
unsafe impl<T: Sync> Sync for OnlyOnce<T> {}

/// Goes through the connections.
struct Settling<'a> {
    /// The row + 1 of whoever is running.
    culprit: u32,
    is_stuck: bool,
    reference: [u8; REFERENCE.len()],
    milliseconds_left: i64,
    handed_over: u32,
    words: &'a mut Words,
}

impl Settling<'_> {
    /// Does for one connection what can be done.
    fn settle(&mut self, index: u32, row: &ConnectionRow) {
        let descriptor = row.descriptor.load(Ordering::Relaxed);
        let way = usize::from(row.way.load(Ordering::Relaxed));
        let Some(answers) = ANSWERS.get(way) else { return };
        let arriving = row.arriving.load(Ordering::Relaxed);
        let sent = row.sent.load(Ordering::Relaxed);
        let has_begun = |exchange: &ExchangeRow| exchange.begun_at.load(Ordering::Relaxed) < sent;

        let mut unanswered = u32::from(arriving > 0);
        let mut begun = 0;
        for (_, exchange) in exchanges_of(index) {
            if has_begun(exchange) {
                begun += 1;
            } else {
                unanswered += 1;
            }
        }
        // An end that nobody but us can tell from a good one has to be a closed connection; but not when
        // others' answers would go with it.
        let wants_to_cut = unanswered > 0 || answers.cut_when_alone.load(Ordering::Relaxed);
        if begun > 0 && !(wants_to_cut && answers.cut.address.load(Ordering::Relaxed) != 0) {
            shutdown(descriptor, libc::SHUT_RDWR);
            return;
        }
        let mut is_well = self.complete_record(descriptor, row);
        if arriving > 0 {
            is_well = is_well && self.send(descriptor, &answers.interrupted, arriving, false);
        }
        for (number, exchange) in exchanges_of(index) {
            let answer = if has_begun(exchange) {
                &answers.cut
            } else if number != self.culprit {
                &answers.interrupted
            } else if self.is_stuck {
                &answers.stuck
            } else {
                &answers.failed
            };
            let id = exchange.id.load(Ordering::Relaxed);
            let without_body = exchange.without_body.load(Ordering::Relaxed);
            is_well = is_well && self.send(descriptor, answer, id, without_body);
        }
        if !is_well {
            shutdown(descriptor, libc::SHUT_RDWR);
        } else if row.settled.load(Ordering::Relaxed) {
            self.hand_over("keep", descriptor);
        } else if way != Way::Cgi as usize {
            // Closing would take the answer back while the other side still sends.
            shutdown(descriptor, libc::SHUT_WR);
            self.hand_over("drain", descriptor);
        }
    }

    fn hand_over(&mut self, what: &str, descriptor: RawFd) {
        if self.handed_over < HANDED_OVER {
            self.handed_over += 1;
            self.words.number(what, descriptor as u64);
        }
    }

    /// Sends what is missing of the record begun: nothing else could be understood behind it.
    fn complete_record(&mut self, descriptor: RawFd, row: &ConnectionRow) -> bool {
        let header = row.header.load(Ordering::Relaxed).to_ne_bytes();
        let owed_header = usize::from(row.owed_header.load(Ordering::Relaxed)).min(header.len());
        let header = &header[header.len() - owed_header..];
        if write_all(descriptor, header, &mut self.milliseconds_left).is_err() {
            return false;
        }
        let filler = [b' '; 1024];
        let mut owed = row.owed.load(Ordering::Relaxed) as usize;
        while owed > 0 {
            let piece = owed.min(filler.len());
            if write_all(descriptor, &filler[..piece], &mut self.milliseconds_left).is_err() {
                return false;
            }
            owed -= piece;
        }
        true
    }

    /// Sends a prepared answer, with id and reference in their places.
    fn send(&mut self, descriptor: RawFd, answer: &StoredAnswer, id: u32, no_body: bool) -> bool {
        let address = answer.address.load(Ordering::Acquire);
        let length =
            if no_body { &answer.without_body } else { &answer.length }.load(Ordering::Relaxed);
        if address == 0 {
            return false;
        }
        // SAFETY: `prepare` has put so many bytes there, which nobody writes to.
        let mut rest = unsafe { std::slice::from_raw_parts(address as *const u8, length) };
        let mut at = 0;
        // Piece by piece through a small buffer, in which the places are filled in. A place may lie
        // across the border of two pieces.
        let mut piece = [0; 4096];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(piece.len()));
            let piece = &mut piece[..now.len()];
            piece.copy_from_slice(now);
            let id = (id as u16).to_be_bytes();
            answer
                .ids
                .iter()
                .for_each(|place| put_at(piece, at, place.load(Ordering::Relaxed), &id));
            for place in &answer.references {
                put_at(piece, at, place.load(Ordering::Relaxed), &self.reference);
            }
            if write_all(descriptor, piece, &mut self.milliseconds_left).is_err() {
                return false;
            }
            at += now.len();
            rest = later;
        }
        true
    }
}

/// Puts `bytes`, which belong at `place` of the whole, into the piece that begins at `at`.
fn put_at(piece: &mut [u8], at: usize, place: u32, bytes: &[u8]) {
    if place == NO_PLACE {
        return;
    }
    for (offset, byte) in bytes.iter().enumerate() {
        let to = (place as usize + offset).checked_sub(at).and_then(|at| piece.get_mut(at));
        if let Some(to) = to {
            *to = *byte;
        }
    }
}

/// The exchanges of a connection with their numbers, which are their rows' + 1.
fn exchanges_of(connection: u32) -> impl Iterator<Item = (u32, &'static ExchangeRow)> {
    let touched = EXCHANGE_PLACES.touched.load(Ordering::Relaxed) as usize;
    EXCHANGE_ROWS
        .iter()
        .take(touched)
        .zip(1..)
        .filter(move |(row, _)| row.connection.load(Ordering::Acquire) == connection + 1)
        .map(|(row, number)| (number, row))
}

fn hand_over_listener(words: &mut Words) {
    let listener = LISTENER.load(Ordering::Relaxed);
    if listener < 0 {
        return;
    }
    if LISTENER_AT_STDIN.load(Ordering::Relaxed) {
        // SAFETY: signal-safe; takes numbers.
        while unsafe { libc::dup2(listener, libc::STDIN_FILENO) } < 0 {
            if !matches!(errno(), libc::EINTR | libc::EBUSY) {
                break;
            }
        }
    } else {
        words.number("listen", listener as u64);
    }
}

/// Unblocks all signals but those that the next image has no handler for at first.
fn block_for_the_next_image() {
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: signal-safe; sigemptyset makes it a whole set, to which numbers are added.
    unsafe {
        libc::sigemptyset(mask.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGCHLD, libc::SIGALRM] {
            libc::sigaddset(mask.as_mut_ptr(), signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut());
    }
}

fn shutdown(descriptor: RawFd, how: c_int) {
    // SAFETY: signal-safe; takes numbers.
    unsafe { libc::shutdown(descriptor, how) };
}

/// How long to wait for the log if it is a pipe or terminal that nobody reads.
const PATIENCE_FOR_LOG_MILLISECONDS: i64 = 100;

/// Appends who crashed, and when, to the file of crashes.
fn note_crash(label: &[u8], now: &Time) {
    let Some(file) = AFTERWARDS.get().and_then(|afterwards| afterwards.crashes.as_ref()) else {
        return;
    };
    let mut line = Text::<64>::new();
    let _ = write!(line, "{} ", now.seconds);
    line.put(label);
    line.put(b"\n");
    let flags = libc::O_WRONLY
        | libc::O_CREAT
        | libc::O_APPEND
        | libc::O_CLOEXEC
        | libc::O_NOFOLLOW
        | libc::O_NONBLOCK;
    // SAFETY: signal-safe; the path is a C string that lives as long as the process.
    unsafe {
        let descriptor = libc::open(file.as_ptr(), flags, 0o600);
        if descriptor >= 0 {
            libc::write(descriptor, line.written().as_ptr().cast(), line.written().len());
            libc::close(descriptor);
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Words.

/// Appends the line to the log: what, whose, asked for with what, and under which reference.
fn write_to_log(cause: Cause, culprit: Option<&ExchangeRow>, now: &Time, reference: &[u8]) {
    let mut line = Text::<1024>::new();
    now.write(&mut line);
    let _ = line.write_str(" ERROR ");
    let _ = match cause {
        Cause::Signal { name, address: Some(address), stack: Some(stack) }
            if address.abs_diff(stack) < 64 * 1024 =>
        {
            write!(line, "The stack overflowed ({name})")
        }
        Cause::Signal { name, address: Some(address), .. } => {
            write!(line, "{name} at address {address:#x}")
        }
        Cause::Signal { name, .. } => line.write_str(name),
        Cause::Memory(bytes) => {
            write!(line, "No memory was left for {bytes} bytes (memory)")
        }
        Cause::Stuck(seconds) => {
            write!(line, "The program did not come round for {seconds} s (watchdog)")
        }
    };
    let suspect = RAN_LAST.load(Ordering::Relaxed).checked_sub(1);
    let suspect = suspect.and_then(|index| EXCHANGE_ROWS.get(index as usize));
    match (culprit, suspect) {
        (Some(culprit), _) => {
            let _ = line.write_str(" in ");
            describe(culprit, &mut line);
        }
        (None, Some(suspect)) => {
            let _ = line.write_str(" between exchanges; the last to run was ");
            describe(suspect, &mut line);
        }
        (None, None) => {}
    }
    let others = in_flight().saturating_sub(u32::from(culprit.is_some()));
    let _ = write!(line, ". Others in progress: {others}, answered 503 or cut off. The program ");
    let starts_anew = !ENDING.load(Ordering::Relaxed)
        && AFTERWARDS.get().is_some_and(|afterwards| afterwards.image.is_some());
    let _ = line.write_str(if starts_anew { "starts anew" } else { "ends" });
    let _ = line.write_str(". reference=");
    line.put(reference);
    line.end_line();
    // If this cannot be written, there is nowhere to report it.
    let _ = write_within(libc::STDERR_FILENO, line.written(), PATIENCE_FOR_LOG_MILLISECONDS);
}

fn describe(exchange: &ExchangeRow, line: &mut Text<1024>) {
    let mut bytes = [0; 256];
    let length = read_text(&exchange.label, &mut bytes);
    if length > 0 {
        line.put(&bytes[..length]);
        line.put(b": ");
    }
    let length = read_text(&exchange.text, &mut bytes);
    for byte in &mut bytes[..length] {
        if byte.is_ascii_control() {
            *byte = b'?';
        }
    }
    line.put(&bytes[..length]);
}

fn name(signal: c_int) -> &'static str {
    match signal {
        libc::SIGSEGV => "SIGSEGV (memory that is not the program's)",
        libc::SIGBUS => "SIGBUS (memory that is not there)",
        libc::SIGILL => "SIGILL (an instruction that does not exist)",
        libc::SIGFPE => "SIGFPE (a calculation that cannot be done)",
        libc::SIGABRT => "SIGABRT (the code gave up)",
        _ => "a fatal signal",
    }
}

/// Where the stack ended when the signal came, on processors that are known here.
fn stack_pointer(context: *mut c_void) -> Option<usize> {
    let context = context.cast::<libc::ucontext_t>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel gives a whole ucontext_t to a handler with SA_SIGINFO.
    let pointer = Some(unsafe { (*context).uc_mcontext.gregs[libc::REG_RSP as usize] } as usize);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel gives a whole ucontext_t to a handler with SA_SIGINFO.
    let pointer = Some(unsafe { (*context).uc_mcontext.sp } as usize);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let pointer = {
        let _ = context;
        None
    };
    pointer
}

/// A text of bounded length; what has no room is left out.
struct Text<const ROOM: usize> {
    bytes: [u8; ROOM],
    length: usize,
}

impl<const ROOM: usize> Text<ROOM> {
    const fn new() -> Self {
        Text { bytes: [0; ROOM], length: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        let length = bytes.len().min(ROOM - self.length);
        self.bytes[self.length..self.length + length].copy_from_slice(&bytes[..length]);
        self.length += length;
    }

    /// Ends a line, also one that has no room left.
    fn end_line(&mut self) {
        self.length = self.length.min(ROOM - 1);
        self.put(b"\n");
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const ROOM: usize> fmt::Write for Text<ROOM> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// Now.
struct Time {
    /// Since 1970.
    seconds: i64,
    nanoseconds: i64,
}

impl Time {
    fn now() -> Time {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: signal-safe; `now` is a whole timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
        Time { seconds: now.tv_sec, nanoseconds: now.tv_nsec }
    }

    fn milliseconds(&self) -> i64 {
        self.seconds * 1000 + self.nanoseconds / 1_000_000
    }

    /// As the other lines of the log begin: `2026-01-31T12:00:00.000000Z 1234`.
    fn write(&self, line: &mut impl fmt::Write) {
        let (year, month, day) = date(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let micros = self.nanoseconds / 1000;
        // SAFETY: getpid takes nothing and cannot fail.
        let process = unsafe { libc::getpid() };
        let _ = write!(
            line,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z {process}"
        );
    }

    /// Names this failure as others are named: the time, the process.
    fn reference(&self, to: &mut [u8; REFERENCE.len()]) {
        to.copy_from_slice(REFERENCE.as_bytes());
        let (time, process) = to.split_at_mut(8);
        base_36(self.milliseconds() as u64, &mut time[..7]);
        // SAFETY: getpid takes nothing and cannot fail.
        base_36(unsafe { libc::getpid() } as u64, &mut process[..4]);
    }
}

/// Writes the last digits of a number.
fn base_36(mut number: u64, to: &mut [u8]) {
    for digit in to.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
    }
}

/// The date of a day since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        for (answers, tries, pauses) in [
            (&[libc::ENOENT][..], 1, 0),
            (&[libc::E2BIG], 1, 0),
            (&[libc::ENOMEM, libc::ENOENT], 2, 1),
            (&[libc::ENOMEM; 9], 5, 4),
        ] {
            let (mut tried, mut paused) = (0, 0);
            let exec = || {
                tried += 1;
                answers[tried - 1]
            };
            let last = try_repeatedly(exec, || paused += 1);
            assert_eq!((tried, paused, last), (tries, pauses, answers[tries - 1]), "{answers:?}");
        }
    }

    #[test]
    fn dates_and_references_look_like_those_of_the_log() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_484, (2026, 1, 31)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected);
        }
        let mut line = Text::<64>::new();
        Time { seconds: 1_769_860_805, nanoseconds: 4_000 }.write(&mut line);
        let line = String::from_utf8(line.written().to_vec()).unwrap();
        assert_eq!(line, format!("2026-01-31T12:00:05.000004Z {}", std::process::id()));
        let mut reference = [0; REFERENCE.len()];
        Time::now().reference(&mut reference);
        assert!(reference.ends_with(b"-crash") && reference[7] == b'-' && reference[12] == b'-');
    }

    #[test]
    fn places_across_the_border_of_two_pieces_are_filled_in() {
        let mut whole = Vec::new();
        for at in [0, 4, 8] {
            let mut piece = *b"....";
            put_at(&mut piece, at, 3, b"abcdef");
            put_at(&mut piece, at, NO_PLACE, b"x");
            whole.extend_from_slice(&piece);
        }
        assert_eq!(whole, b"...abcdef...");
    }

    #[test]
    fn a_text_without_room_is_cut_and_still_ends() {
        let mut text = Text::<8>::new();
        text.put(b"1234567890");
        text.end_line();
        assert_eq!(text.written(), b"1234567\n");
    }
}
