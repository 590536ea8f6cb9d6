//! What each client gets when the process cannot continue: the request that was running gets the reply *failed* (or
//! *stalled*), the others *interrupted*. A response of which bytes have been sent is cut off in a way that the peer
//! notices. One line goes to standard error. Then the program restarts in place ([`Image`]) with its listening socket
//! and idle connections.
//!
//! All of this runs in a signal handler: nothing here allocates, takes a lock or trusts the heap.

use std::ffi::c_int;
use std::fmt::Write as _;
use std::os::fd::RawFd;
use std::thread;
use std::time::Duration;

use process::memory_limit::lift_limit;
use process::reexec::HandoverWords;
use rustix::fs::{Mode, OFlags};
use rustix::net::Shutdown;
use sys::descriptors::{put_on_stdin, shutdown};
use sys::fatal::FatalSignal;
use sys::fork::exit_at_once;
use sys::unblocked::write_all;
use sys::{allocator, interval, signals};

use super::crash_plan::{self, CRASH_PLAN};
use super::prepared::{PreparedReply, prepared};
use super::report::{CrashCause, Line, Time, name, write_exec_failure, write_to_log};
use super::tables::{
    CONNECTIONS, ConnectionRow, InputState, PART_BYTES, REQUESTS, RUNNING, ReplyFormat, RequestRow,
    requests_of,
};
use crate::error_report::PLACEHOLDER;
use crate::upgrade::handover::{self, Item, Reason};

/// How long to wait, over all connections together, for peers that do not read their replies.
const PATIENCE_MILLISECONDS: i64 = 2000;

/// How many connections are handed to the next image at most: what fits into the handover state at 12 bytes each. The
/// others are closed.
const MAX_HANDED_OVER: u32 = 1200;

/// Called by the handler of fatal signals. Returns if the signal should have its default effect.
pub(super) fn on_fatal(signal: &FatalSignal) {
    let memory = allocator::failed_in_this_turn();
    let cause = match signal.number {
        libc::SIGABRT if memory > 0 => CrashCause::Memory(memory),
        number => {
            let (address, stack) = (signal.address, signal.stack);
            let in_other_thread = signal.in_other_thread;
            CrashCause::Signal { name: name(number), address, stack, in_other_thread }
        }
    };
    if !(signal.from_outside && RUNNING.is_idle()) {
        give_up(cause);
    }
}

/// Called by the handler of the timer signal, with all signals blocked, when the loop has not completed a turn for
/// `ticks` ticks. Exits if the program is not restarted.
pub(super) fn on_stall(ticks: u32) -> ! {
    give_up(CrashCause::Stall(ticks));
    exit_at_once(1)
}

/// Replies to every request and restarts in place, or exits if a restart is not wanted. Returns, without replies, in a
/// process that the handlers do not work for, before the first request and during another crash; and after the replies
/// if the program cannot be executed.
fn give_up(cause: CrashCause) {
    if RUNNING.last().is_none() {
        return;
    }
    let Some(mode) = CRASH_PLAN.claim() else { return };
    interval::disarm();
    let now = Time::now();
    let mut reference = [0; PLACEHOLDER.len()];
    now.reference(&mut reference);
    let is_stall = matches!(cause, CrashCause::Stall(_));
    let is_elsewhere = matches!(cause, CrashCause::Signal { in_other_thread: true, .. });
    let running = RUNNING.now().filter(|_| !is_elsewhere);
    let culprit = running.map(|index| REQUESTS.row(index));
    let image = CRASH_PLAN.image().filter(|_| mode == crash_plan::Mode::Restart);
    write_to_log(cause, culprit, &now, &reference, image.is_some());

    let mut words = handover::no_words();
    hand_over_process(if is_stall { Reason::Stall } else { Reason::Crash }, &mut words);
    if let Some(culprit) = culprit {
        accuse(culprit, &now, &mut words);
    }
    let mut settling = Settling {
        culprit: running,
        is_stall,
        reference,
        milliseconds_left: PATIENCE_MILLISECONDS,
        handed_over: 0,
        words: &mut words,
    };
    let is_cgi = settling.settle_all();
    let Some(image) = image.filter(|_| !is_cgi) else { exit_at_once(1) };
    lift_limit();
    signals::hold_for_exec_only();
    let error = try_repeatedly(
        || image.exec(&mut words).raw_os_error().unwrap_or(0),
        || thread::sleep(EXEC_PAUSE),
    );
    write_exec_failure(&now, error);
}

/// Hands over why the image ended, the listen socket and the launcher's file.
fn hand_over_process(reason: Reason, words: &mut HandoverWords) {
    Item::Reason(reason).encode(words);
    hand_over_listener(words);
    let mut origin = [0; 64];
    let length = CRASH_PLAN.origin(&mut origin);
    if length > 0
        && let Ok(origin) = std::str::from_utf8(&origin[..length])
    {
        Item::Origin(origin).encode(words);
    }
}

/// Records the part that was running, for the next image's log and for the quarantine.
fn accuse(culprit: &RequestRow, now: &Time, words: &mut HandoverWords) {
    let mut part = [0; PART_BYTES];
    let length = culprit.part(&mut part);
    if length > 0 {
        let part = &part[..length];
        Item::Part(std::str::from_utf8(part).unwrap_or("unknown")).encode(words);
        record_crash(part, now);
    }
}

/// More than one, because memory or descriptors may be short for a moment, and the clients queued at the listening
/// socket depend on this process.
const EXEC_TRIES: u32 = 5;

const EXEC_PAUSE: Duration = Duration::from_millis(50);

/// Tries to execute the next image; repeats it after a pause if the error may be temporary. Returns the last errno.
fn try_repeatedly(mut exec: impl FnMut() -> c_int, mut pause: impl FnMut()) -> c_int {
    for _ in 1..EXEC_TRIES {
        match exec() {
            // No such program, or more variables than the system allows: permanent.
            error @ (libc::ENOENT | libc::EACCES | libc::ENOEXEC | libc::E2BIG) => return error,
            _ => pause(),
        }
    }
    exec()
}

/// The state of a walk over all connections.
struct Settling<'a> {
    /// The request that was running.
    culprit: Option<u32>,
    is_stall: bool,
    reference: [u8; PLACEHOLDER.len()],
    milliseconds_left: i64,
    handed_over: u32,
    words: &'a mut HandoverWords,
}

impl Settling<'_> {
    /// Settles every connection. Returns whether one of them is a CGI request, whose process serves no other.
    fn settle_all(&mut self) -> bool {
        let mut is_cgi = false;
        for (index, row) in CONNECTIONS.rows() {
            if let Some(descriptor) = row.descriptor() {
                is_cgi |= row.is(ReplyFormat::Cgi);
                self.settle(index, row, descriptor);
            }
        }
        is_cgi
    }

    /// Replies to the requests of one connection, then hands it over or closes it.
    fn settle(&mut self, index: u32, row: &ConnectionRow, descriptor: RawFd) {
        let replies = prepared(row.format());
        let (input, sent) = (row.input(), row.sent());

        let mut unanswered = u32::from(matches!(input, InputState::Arriving(_)));
        let mut started = 0;
        for (_, request) in requests_of(index) {
            if request.has_started(sent) {
                started += 1;
            } else {
                unanswered += 1;
            }
        }
        // A web server may take `cut` for the regular end of a response, so the connection is closed instead, unless
        // that would lose the replies to other requests.
        let wants_to_cut = unanswered > 0 || replies.cut_when_alone;
        if started > 0 && !(wants_to_cut && replies.cut.is_some()) {
            shutdown(descriptor, Shutdown::Both);
            return;
        }
        let mut all_sent = self.complete_record(descriptor, row);
        if let InputState::Arriving(id) = input {
            all_sent = all_sent && self.send(descriptor, &replies.interrupted, id, false);
        }
        for (number, request) in requests_of(index) {
            let reply = if request.has_started(sent) {
                // Without `cut`, the connection was closed above.
                replies.cut.as_ref().unwrap_or(&replies.interrupted)
            } else if Some(number) != self.culprit {
                &replies.interrupted
            } else if self.is_stall {
                &replies.stalled
            } else {
                &replies.failed
            };
            all_sent =
                all_sent && self.send(descriptor, reply, request.id(), request.without_body());
        }
        // HTTP replies have `Connection: close` (`pages.rs`), and a client that reads until then would wait.
        let is_to_close = row.is(ReplyFormat::Http) && unanswered > 0;
        if !all_sent {
            shutdown(descriptor, Shutdown::Both);
        } else if input == InputState::Settled && !is_to_close {
            self.hand_over(Item::KeepAlive(descriptor));
        } else if !row.is(ReplyFormat::Cgi) {
            // Closing while the peer still sends would reset the connection and discard the response.
            shutdown(descriptor, Shutdown::Write);
            self.hand_over(Item::Unread(descriptor));
        }
    }

    fn hand_over(&mut self, connection: Item<'_>) {
        if self.handed_over < MAX_HANDED_OVER {
            self.handed_over += 1;
            connection.encode(self.words);
        }
    }

    /// Sends the rest of a partly sent record, with filler as content: without it, the peer would misread whatever
    /// follows.
    fn complete_record(&mut self, descriptor: RawFd, row: &ConnectionRow) -> bool {
        let (header, of_header, mut owed) = row.owed();
        let header = &header[header.len() - of_header..];
        if write_all(descriptor, header, &mut self.milliseconds_left).is_err() {
            return false;
        }
        let filler = [b' '; 1024];
        while owed > 0 {
            let piece = owed.min(filler.len());
            if write_all(descriptor, &filler[..piece], &mut self.milliseconds_left).is_err() {
                return false;
            }
            owed -= piece;
        }
        true
    }

    /// Sends a prepared reply with id and reference filled in.
    fn send(
        &mut self,
        descriptor: RawFd,
        reply: &PreparedReply,
        id: u16,
        without_body: bool,
    ) -> bool {
        let Settling { reference, milliseconds_left, .. } = self;
        reply.fill_in(id, reference, without_body, |piece| {
            write_all(descriptor, piece, milliseconds_left).is_ok()
        })
    }
}

fn hand_over_listener(words: &mut HandoverWords) {
    match CRASH_PLAN.listener() {
        Some((listener, true)) => put_on_stdin(listener),
        Some((listener, false)) => {
            Item::Listener(listener).encode(words);
        }
        None => {}
    }
}

/// Appends time and part to the file of crashes.
fn record_crash(part: &[u8], now: &Time) {
    let Some(file) = CRASH_PLAN.crashes() else { return };
    let mut line = Line::<64>::new();
    let _ = write!(line, "{} ", now.seconds);
    line.put(part);
    line.put(b"\n");
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::APPEND
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK;
    if let Ok(descriptor) = rustix::fs::open(file, flags, Mode::RUSR | Mode::WUSR) {
        let _ = rustix::io::write(descriptor, line.written());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_errors_are_retried_and_permanent_ones_are_not() {
        for (errors, tries, pauses) in [
            (&[libc::ENOENT][..], 1, 0),
            (&[libc::E2BIG], 1, 0),
            (&[libc::ENOMEM, libc::ENOENT], 2, 1),
            (&[libc::ENOMEM; 9], 5, 4),
        ] {
            let (mut tried, mut paused) = (0, 0);
            let exec = || {
                tried += 1;
                errors[tried - 1]
            };
            let last = try_repeatedly(exec, || paused += 1);
            assert_eq!((tried, paused, last), (tries, pauses, errors[tries - 1]), "{errors:?}");
        }
    }
}
