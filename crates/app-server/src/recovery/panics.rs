//! Panics of the application: message, place and backtrace for the log, instead of lines on standard
//! error that nobody can match with a visitor's report.
//!
//! The hook keeps place and backtrace; who catches the panic (`panic_guard.rs`) writes them with the
//! reference. A panic outside of a request is written at once. Messages are cut, and a backtrace is
//! made only now and then: a visitor may have found a request that panics.
//!
//! To find the names of a backtrace takes a tenth of a second and, for good, tens of MiB (the program's
//! tables of lines are read). A process that goes on lets a child do it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::io;
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::rc::Rc;
use std::sync::Once;
use std::time::{Duration, Instant};

use process::descriptors;
use sys::allocator::naming_a_backtrace;

/// Bytes of a message that are kept. It may quote what a visitor sent.
const MESSAGE_BYTES: usize = 1000;

/// Bytes of a backtrace that are kept.
const BACKTRACE_BYTES: usize = 6000;

/// Backtraces of one thread that are made at once …
const BACKTRACES: u32 = 8;

/// … before the next takes so long.
const BACKTRACE_AGAIN: Duration = Duration::from_secs(10);

thread_local! {
    /// How deep we are in code whose panics are caught and told.
    static EXPECTED: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    static BACKTRACE: RefCell<Option<(Backtrace, Symbolize)>> = const { RefCell::new(None) };
    static MADE: Cell<(u32, Option<Instant>)> = const { Cell::new((0, None)) };
}

/// Where the symbols of a backtrace are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Symbolize {
    /// In a child process: this one serves other requests, so its time and memory count.
    #[default]
    InChild,
    /// In this process, which exits after the request.
    Here,
}

/// Installs the hook, once a process.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            if EXPECTED.try_with(Cell::get).is_ok_and(|depth| depth > 0) {
                keep(info);
            } else {
                tell_unexpected(info);
            }
        }));
    });
}

/// Writes what std's own hook would write to standard error, without waiting for a reader. Does not use a log:
/// a panic in it would be a panic within a panic, which aborts the process.
fn tell_unexpected(info: &PanicHookInfo<'_>) {
    // It only prints something if RUST_BACKTRACE is set.
    let backtrace = Backtrace::capture();
    let mut told = info.to_string().replace('\n', "\n    ");
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = write!(told, "\n{backtrace}");
    }
    told.push('\n');
    // If this cannot be written, there is nowhere to report it.
    let _ = descriptors::write_at_once(io::stderr().as_fd(), told.as_bytes());
}

/// Notes where the backtrace of the panic that was just caught is to be symbolized.
pub(crate) fn symbolize(at: Symbolize) {
    BACKTRACE.with_borrow_mut(|kept| {
        if let Some((_, symbolize)) = kept {
            *symbolize = at;
        }
    });
}

/// Runs code whose panics the caller catches and tells.
pub(crate) fn expected<T>(code: impl FnOnce() -> T) -> T {
    EXPECTED.set(EXPECTED.get() + 1);
    let outcome = code();
    EXPECTED.set(EXPECTED.get() - 1);
    outcome
}

/// Adds the place to a caught panic's message, as far as it is known.
pub(crate) fn with_place(mut message: String) -> String {
    cut(&mut message, MESSAGE_BYTES);
    match PLACE.take() {
        Some(place) => format!("{message}, at {place}"),
        None => message,
    }
}

/// Writes the backtrace of the last caught panic, if there is one.
pub(crate) fn log_backtrace(reference: &str) {
    let Some((backtrace, at)) = BACKTRACE.take() else { return };
    if at == Symbolize::Here {
        return tell(reference, &named(&backtrace));
    }
    let backtrace = Rc::new(backtrace);
    let reference = reference.to_owned();
    let same = backtrace.clone();
    let naming = process::compute(NAMING, move || named(&same).into_bytes());
    event_loop::spawn(async move {
        match naming.await {
            Ok(text) => tell(&reference, &String::from_utf8_lossy(&text)),
            // Where no child can be had, the cause is worth the time.
            Err(process::Failure::CannotFork(_)) => tell(&reference, &named(&backtrace)),
            Err(failure) => {
                tracing::error!("The backtrace of panic {reference} could not be read: {failure}.");
            }
        }
    })
    .detach();
}

/// What finding the names may take.
const NAMING: process::Limits = process::Limits { memory: 1 << 30, ..process::Limits::DEFAULT };

fn tell(reference: &str, backtrace: &str) {
    tracing::error!("Backtrace of panic {reference}:\n{backtrace}");
}

fn named(backtrace: &Backtrace) -> String {
    shortened(&naming_a_backtrace(|| backtrace.to_string()))
}

fn keep(info: &PanicHookInfo<'_>) {
    PLACE.set(info.location().map(ToString::to_string));
    let backtrace = is_time_for_a_backtrace().then(Backtrace::force_capture);
    BACKTRACE.set(backtrace.map(|backtrace| (backtrace, Symbolize::default())));
}

fn is_time_for_a_backtrace() -> bool {
    let now = Instant::now();
    let (made, last) = MADE.get();
    let rested = last.is_none_or(|last| now.duration_since(last) >= BACKTRACE_AGAIN);
    if made >= BACKTRACES && !rested {
        return false;
    }
    MADE.set((if rested { 1 } else { made + 1 }, Some(now)));
    true
}

/// The module that calls the application and catches its panics.
pub(crate) const CATCHER: &str = "app_server::request::panic_guard";

/// Leaves out how the panic itself works, above, and how the server came to call, below.
fn shortened(backtrace: &str) -> String {
    let frames = backtrace.split("\n").collect::<Vec<_>>();
    let is_frame = |line: &str| line.trim_start().split(':').next().is_some_and(is_number);
    let starts: Vec<_> = (0..frames.len()).filter(|at| is_frame(frames[*at])).collect();
    let named = |at: usize, names: &[&str]| names.iter().any(|name| frames[at].contains(name));
    // The machinery is on top: first the hook's, then the panic's, down to who called it.
    let is_machinery = |at: &usize| named(*at, &["core::panicking", "rust_begin_unwind"]);
    let begin = starts.iter().position(is_machinery).unwrap_or(0);
    let begin = begin + starts[begin..].iter().take_while(|at| is_machinery(at)).count();
    let end = starts
        .iter()
        .skip(begin)
        .position(|at| named(*at, &[CATCHER]))
        .map_or(starts.len(), |count| begin + count);
    let line = |frame: usize| starts.get(frame).copied().unwrap_or(frames.len());
    let mut text = String::new();
    for line in &frames[line(begin)..line(end.max(begin))] {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if text.is_empty() {
        backtrace.clone_into(&mut text);
    }
    cut(&mut text, BACKTRACE_BYTES);
    text.truncate(text.trim_end().len());
    text
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Cuts a text at a whole letter.
fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_is_what_the_application_did() {
        let backtrace = "   0: app_server::recovery::panics::install_hook::{{closure}}\n   1: rust_begin_unwind\n   \
                         2: core::panicking::panic_fmt\n             at core/panicking.rs:80\n   3: app::handler\n             \
                         at app.rs:7\n   4: axum::call\n   5: app_server::request::panic_guard::catch\n   6: main";
        let expected = "   3: app::handler\n             at app.rs:7\n   4: axum::call";
        assert_eq!(shortened(backtrace), expected);
    }
}
