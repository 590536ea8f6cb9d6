//! The last line that a crashing process logs: what happened, in which request, under which reference.
//!
//! Runs in a signal handler: nothing here allocates or takes a lock.

use std::ffi::c_int;
use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use sys::unblocked::write_within;

use super::tables::{REQUESTS, RUNNING, RequestRow};
use crate::error_report::{PLACEHOLDER, base_36};
use crate::node::{node, process_number};

/// Why the process cannot continue.
#[derive(Clone, Copy)]
pub(super) enum CrashCause {
    Signal {
        name: &'static str,
        address: Option<usize>,
        stack: Option<usize>,
        /// It hit another thread than the server's.
        in_other_thread: bool,
    },
    /// An allocation of this many bytes failed.
    Memory(usize),
    /// The loop has not completed a turn for this many ticks.
    Stall(u32),
}

/// How long to wait for a reader if the log is a pipe or terminal.
const PATIENCE_FOR_LOG_MILLISECONDS: i64 = 100;

/// Writes the line: cause, part, method and path, reference.
pub(super) fn write_to_log(
    cause: CrashCause,
    culprit: Option<&RequestRow>,
    now: &Time,
    reference: &[u8],
    restarts: bool,
) {
    let mut line = Line::<1024>::new();
    now.write(&mut line);
    let _ = line.write_str(" ERROR ");
    let _ = match cause {
        CrashCause::Signal { name, address: Some(address), stack: Some(stack), .. }
            if address.abs_diff(stack) < 64 * 1024 =>
        {
            write!(line, "Stack overflow ({name})")
        }
        CrashCause::Signal { name, address: Some(address), .. } => {
            write!(line, "{name} at address {address:#x}")
        }
        CrashCause::Signal { name, .. } => line.write_str(name),
        CrashCause::Memory(bytes) => {
            write!(line, "Out of memory allocating {bytes} bytes (memory)")
        }
        CrashCause::Stall(seconds) => {
            write!(line, "Event loop stalled for {seconds} s (watchdog)")
        }
    };
    match (culprit, RUNNING.last()) {
        (Some(culprit), _) => {
            let _ = line.write_str(" in ");
            describe(culprit, &mut line);
        }
        (None, Some(suspect)) => {
            let _ = line.write_str(match cause {
                CrashCause::Signal { in_other_thread: true, .. } => {
                    " in a thread of the application's; the last request to run was "
                }
                _ => " between requests; the last to run was ",
            });
            describe(suspect, &mut line);
        }
        (None, None) => {}
    }
    let others = REQUESTS.taken().saturating_sub(u32::from(culprit.is_some()));
    let _ = write!(line, ". {others} other requests in flight were answered 503 or cut off. ");
    let _ = line.write_str(if restarts { "Restarting in place" } else { "Exiting" });
    let _ = line.write_str(". reference=");
    line.put(reference);
    line.end_line();
    write_line(line.written());
}

fn describe(request: &RequestRow, line: &mut Line<1024>) {
    let mut bytes = [0; 256];
    let length = request.part(&mut bytes);
    if length > 0 {
        line.put(&bytes[..length]);
        line.put(b": ");
    }
    let length = request.method_and_path(&mut bytes);
    for byte in &mut bytes[..length] {
        if byte.is_ascii_control() {
            *byte = b'?';
        }
    }
    line.put(&bytes[..length]);
}

pub(super) fn name(signal: c_int) -> &'static str {
    match signal {
        libc::SIGSEGV => "SIGSEGV (invalid memory access)",
        libc::SIGBUS => "SIGBUS (access beyond the end of a mapped file)",
        libc::SIGILL => "SIGILL (illegal instruction)",
        libc::SIGFPE => "SIGFPE (arithmetic error)",
        libc::SIGABRT => "SIGABRT (abort)",
        _ => "a fatal signal",
    }
}

/// Logs that the program could not be executed.
pub(super) fn write_exec_failure(now: &Time, error: c_int) {
    let mut line = Line::<256>::new();
    now.write(&mut line);
    let _ = writeln!(line, " ERROR The program could not restart in place (os error {error}).");
    write_line(line.written());
}

fn write_line(line: &[u8]) {
    // If this cannot be written, there is nowhere to report it.
    let _ = write_within(libc::STDERR_FILENO, line, PATIENCE_FOR_LOG_MILLISECONDS);
}

/// A line of bounded length; what does not fit is dropped.
pub(super) struct Line<const CAPACITY: usize> {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl<const CAPACITY: usize> Line<CAPACITY> {
    pub(super) const fn new() -> Self {
        Line { bytes: [0; CAPACITY], length: 0 }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        let length = bytes.len().min(CAPACITY - self.length);
        self.bytes[self.length..self.length + length].copy_from_slice(&bytes[..length]);
        self.length += length;
    }

    /// Ends the line; if the text is full, the newline replaces the last byte.
    fn end_line(&mut self) {
        self.length = self.length.min(CAPACITY - 1);
        self.put(b"\n");
    }

    pub(super) fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const CAPACITY: usize> fmt::Write for Line<CAPACITY> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// A point in time.
pub(super) struct Time {
    /// Since 1970.
    pub(super) seconds: i64,
    nanoseconds: i64,
}

impl Time {
    pub(super) fn now() -> Time {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time { seconds: now.as_secs() as i64, nanoseconds: i64::from(now.subsec_nanos()) }
    }

    fn milliseconds(&self) -> i64 {
        self.seconds * 1000 + self.nanoseconds / 1_000_000
    }

    /// Writes what all log lines start with: `2026-01-31T12:00:00.000000Z 1234`, time and pid, and the machine's name
    /// if there are several.
    fn write(&self, line: &mut impl fmt::Write) {
        let (year, month, day) = date(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let micros = self.nanoseconds / 1000;
        let process = std::process::id();
        let _ = write!(
            line,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z {process}"
        );
        if let Some(node) = node() {
            let _ = write!(line, " node={node}");
        }
    }

    /// Writes the reference of this crash, in the form of all references: time and process, then `-crash`.
    pub(super) fn reference(&self, to: &mut [u8; PLACEHOLDER.len()]) {
        to.copy_from_slice(PLACEHOLDER.as_bytes());
        let (time, process) = to.split_at_mut(8);
        base_36(self.milliseconds() as u64, &mut time[..7]);
        base_36(process_number(), &mut process[..4]);
    }
}

/// Converts days since 1970-01-01 to year, month and day (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
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
        let mut line = Line::<64>::new();
        Time { seconds: 1_769_860_805, nanoseconds: 4_000 }.write(&mut line);
        let line = String::from_utf8(line.written().to_vec()).unwrap();
        assert_eq!(line, format!("2026-01-31T12:00:05.000004Z {}", std::process::id()));
        let mut reference = [0; PLACEHOLDER.len()];
        Time::now().reference(&mut reference);
        assert!(reference.ends_with(b"-crash") && reference[7] == b'-' && reference[12] == b'-');
    }

    #[test]
    fn a_full_text_is_truncated_and_still_ends_its_line() {
        let mut text = Line::<8>::new();
        text.put(b"1234567890");
        text.end_line();
        assert_eq!(text.written(), b"1234567\n");
    }
}
