//! Panics of the application: message, location and backtrace for the log, instead of lines on standard error that
//! cannot be matched with a visitor's report.
//!
//! The hook keeps location and backtrace; `panic_guard.rs`, which catches the panic, logs them with the reference. A
//! panic outside a request is written at once. Messages are truncated and backtraces rate-limited, because a visitor
//! may have found a request that panics.
//!
//! Symbolizing a backtrace takes a tenth of a second and tens of MiB that are never freed (the program's line tables
//! are read). A process that continues leaves it to a child.

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
use sys::allocator::with_backtrace_lock;

use crate::cure::cure_of;

/// Bytes of a message that are kept. A message may quote what a visitor sent.
const MESSAGE_BYTES: usize = 1000;

/// Bytes of a backtrace that are kept.
const BACKTRACE_BYTES: usize = 6000;

/// How many backtraces a thread captures in a row …
const BACKTRACE_BURST: u32 = 8;

/// … before it waits this long for the next burst.
const BACKTRACE_PAUSE: Duration = Duration::from_secs(10);

thread_local! {
    /// The nesting depth of code whose panics are caught and logged.
    static EXPECTED: Cell<u32> = const { Cell::new(0) };
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
    static BACKTRACE: RefCell<Option<(Backtrace, Symbolize)>> = const { RefCell::new(None) };
    /// How many backtraces of the burst were captured, and when the last one was.
    static CAPTURED: Cell<(u32, Option<Instant>)> = const { Cell::new((0, None)) };
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

/// Installs the hook, once per process.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            if EXPECTED.try_with(Cell::get).is_ok_and(|depth| depth > 0) {
                keep(info);
            } else {
                write_unexpected(info);
            }
        }));
    });
}

/// Writes what std's own hook would write to standard error, without waiting for a reader. Does not use the log: a
/// panic there would be a panic within a panic, which aborts the process.
fn write_unexpected(info: &PanicHookInfo<'_>) {
    // Captures something only if RUST_BACKTRACE is set.
    let backtrace = Backtrace::capture();
    let mut text = unexpected(&info.to_string());
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = write!(text, "\n{backtrace}");
    }
    text.push('\n');
    // If this cannot be written, there is nowhere to report it.
    let _ = descriptors::write_at_once(io::stderr().as_fd(), text.as_bytes());
}

/// What is written of a panic outside a request, such as that of a background task. The visitors who wait for it may see no
/// more than a timeout, so this is the only place for its cure.
fn unexpected(panic: &str) -> String {
    let cure = cure_of(panic);
    format!("{panic}{cure}").replace('\n', "\n    ")
}

/// Sets where to symbolize the backtrace of the panic that was just caught.
pub(crate) fn symbolize(at: Symbolize) {
    BACKTRACE.with_borrow_mut(|backtrace| {
        if let Some((_, symbolize)) = backtrace {
            *symbolize = at;
        }
    });
}

/// Runs code whose panics the caller catches and logs.
pub(crate) fn expected<T>(code: impl FnOnce() -> T) -> T {
    EXPECTED.set(EXPECTED.get() + 1);
    let outcome = code();
    EXPECTED.set(EXPECTED.get() - 1);
    outcome
}

/// Appends the location to a caught panic's message, if it is known.
pub(crate) fn with_location(mut message: String) -> String {
    truncate(&mut message, MESSAGE_BYTES);
    match LOCATION.take() {
        Some(location) => format!("{message}, at {location}"),
        None => message,
    }
}

/// Logs the backtrace of the last caught panic, if one was captured.
pub(crate) fn log_backtrace(reference: &str) {
    let Some((backtrace, at)) = BACKTRACE.take() else { return };
    if at == Symbolize::Here {
        return log(reference, &symbolized(&backtrace));
    }
    let backtrace = Rc::new(backtrace);
    let reference = reference.to_owned();
    let for_child = backtrace.clone();
    let computation =
        process::compute(SYMBOLIZE_LIMITS, move || symbolized(&for_child).into_bytes());
    event_loop::spawn(async move {
        match computation.await {
            Ok(text) => log(&reference, &String::from_utf8_lossy(&text)),
            // Without a child, knowing the cause is worth the time here.
            Err(process::Failure::CannotFork(_)) => log(&reference, &symbolized(&backtrace)),
            Err(failure) => {
                tracing::error!("Cannot read the backtrace of panic {reference}: {failure}.");
            }
        }
    })
    .detach();
}

/// The limits of the child that symbolizes a backtrace.
const SYMBOLIZE_LIMITS: process::Limits =
    process::Limits { memory: 1 << 30, ..process::Limits::DEFAULT };

fn log(reference: &str, backtrace: &str) {
    tracing::error!("Backtrace of panic {reference}:\n{backtrace}");
}

fn symbolized(backtrace: &Backtrace) -> String {
    shortened(&with_backtrace_lock(|| backtrace.to_string()))
}

fn keep(info: &PanicHookInfo<'_>) {
    LOCATION.set(info.location().map(ToString::to_string));
    let backtrace = may_capture_backtrace().then(Backtrace::force_capture);
    BACKTRACE.set(backtrace.map(|backtrace| (backtrace, Symbolize::default())));
}

fn may_capture_backtrace() -> bool {
    let now = Instant::now();
    let (count, last) = CAPTURED.get();
    let has_paused = last.is_none_or(|last| now.duration_since(last) >= BACKTRACE_PAUSE);
    if count >= BACKTRACE_BURST && !has_paused {
        return false;
    }
    CAPTURED.set((if has_paused { 1 } else { count + 1 }, Some(now)));
    true
}

/// The module that calls the application and catches its panics.
pub(crate) const CATCHER: &str = "app_server::request::panic_guard";

/// Removes the frames of the panic machinery, on top, and of the server's calls into the application, at the bottom.
fn shortened(backtrace: &str) -> String {
    let lines = backtrace.split("\n").collect::<Vec<_>>();
    let is_frame = |line: &str| line.trim_start().split(':').next().is_some_and(is_number);
    let starts: Vec<_> = (0..lines.len()).filter(|at| is_frame(lines[*at])).collect();
    let contains = |at: usize, names: &[&str]| names.iter().any(|name| lines[at].contains(name));
    // The machinery is on top: the hook, then the panic, down to the function that panicked.
    let is_machinery = |at: &usize| contains(*at, &["core::panicking", "rust_begin_unwind"]);
    let begin = starts.iter().position(is_machinery).unwrap_or(0);
    let begin = begin + starts[begin..].iter().take_while(|at| is_machinery(at)).count();
    let end = starts
        .iter()
        .skip(begin)
        .position(|at| contains(*at, &[CATCHER]))
        .map_or(starts.len(), |count| begin + count);
    let first_line = |frame: usize| starts.get(frame).copied().unwrap_or(lines.len());
    let mut text = String::new();
    for line in &lines[first_line(begin)..first_line(end.max(begin))] {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if text.is_empty() {
        backtrace.clone_into(&mut text);
    }
    truncate(&mut text, BACKTRACE_BYTES);
    text.truncate(text.trim_end().len());
    text
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Truncates a text to at most `bytes` bytes at a character boundary, and marks that with an ellipsis.
fn truncate(text: &mut String, bytes: usize) {
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
    fn a_panic_of_a_background_task_has_its_cure() {
        assert_eq!(
            unexpected("panicked at a.rs:1:\nno such thing"),
            "panicked at a.rs:1:\n    no such thing"
        );
        let refused =
            unexpected("panicked at a.rs:1:\nOS can't spawn worker thread: (os error 11)");
        assert!(
            refused.contains("\n    OS can't spawn") && refused.contains("refuses threads"),
            "{refused}"
        );
    }

    #[test]
    fn a_backtrace_shows_only_the_frames_of_the_application() {
        let backtrace = "   0: app_server::recovery::panics::install_hook::{{closure}}\n   1: rust_begin_unwind\n   \
                         2: core::panicking::panic_fmt\n             at core/panicking.rs:80\n   3: app::handler\n             \
                         at app.rs:7\n   4: axum::call\n   5: app_server::request::panic_guard::catch\n   6: main";
        let expected = "   3: app::handler\n             at app.rs:7\n   4: axum::call";
        assert_eq!(shortened(backtrace), expected);
    }
}
