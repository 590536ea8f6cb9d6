//! What happens when the process cannot continue: after a fatal signal, or when the event loop stalls.
//!
//! The signal handler must not allocate, take a lock or trust the heap, so everything it needs is prepared in
//! advance: open connections and requests in flight in `tables.rs`, the replies to send, byte for byte, in
//! `prepared.rs` (built by `pages.rs`), what follows them in `crash_plan.rs`. What the handler does, and which bytes
//! each connection still needs, is in `settle.rs`; the last log line in `report.rs`. `guard.rs` installs all of it,
//! `watchdog.rs` detects a stalled loop, `crashes.rs` has the files in which crashes are recorded, `quarantine.rs` disables
//! parts that crash repeatedly, `panics.rs` handles code that panics.
//!
//! The server holds a [`Recovery`]. A transport holds one handle per connection, [`FastCgiGuard`], [`HttpGuard`] or
//! for a single request the plain [`ConnectionGuard`]; it reports what was read and sent, and what that means in a
//! crash is known here. Each request in flight has a [`RequestGuard`], and its code runs through a [`Mark`]. Without
//! installed handlers, none of these does anything.
//!
//! Until the first request has started, a fatal signal has its default effect: a program that crashes on startup
//! exits instead of restarting forever.

mod crash_plan;
mod crashes;
mod fastcgi;
mod guard;
mod handles;
mod http;
mod pages;
pub(crate) mod panics;
mod prepared;
mod quarantine;
mod report;
mod settle;
mod tables;
mod watchdog;

pub(crate) use fastcgi::FastCgiGuard;
pub(crate) use guard::CrashGuard;
pub(crate) use handles::{ConnectionGuard, Mark, RequestGuard};
pub(crate) use http::HttpGuard;
pub(crate) use tables::ReplyFormat;

pub use crashes::{
    CRASHES_ELSEWHERE_FILE, CRASHES_FILE, Crash, CrashElsewhere, OLD_CRASHES_FILE, recent_crashes,
    set_crashes_elsewhere,
};

use std::os::fd::BorrowedFd;

use self::crash_plan::{CRASH_PLAN, Mode};
use self::pages::Pages;
use self::quarantine::Quarantine;
use crate::cgi_vars::base_path::BasePath;
use crate::host::Host;
use crate::settings::Settings;

/// One server's side of recovery.
pub(crate) struct Recovery {
    /// The format of the replies; `None` without installed handlers.
    format: Option<ReplyFormat>,
    pages: Pages,
    quarantine: Quarantine,
}

impl Recovery {
    /// For a server whose replies have this format. If there is to be a [`CrashGuard`], create it first.
    pub(crate) fn new(settings: &Settings, format: ReplyFormat) -> Recovery {
        Recovery {
            format: CRASH_PLAN.is_installed().then_some(format),
            pages: Pages::default(),
            quarantine: Quarantine::new(settings.state_folder.as_deref()),
        }
    }

    /// For a process that serves a single request and may crash with it. Quarantined parts are still refused.
    pub(crate) fn without_handlers(settings: &Settings) -> Recovery {
        Recovery {
            format: None,
            pages: Pages::default(),
            quarantine: Quarantine::new(settings.state_folder.as_deref()),
        }
    }

    /// Creates the folder in which crashes are recorded, if handlers are installed.
    pub(crate) fn make_folder(&self, settings: &Settings) {
        if self.format.is_some() {
            guard::make_folder(settings);
        }
    }

    /// Prepares the pages for a site mounted at `base`, unless that has been done.
    pub(crate) fn prepare_pages(
        &self,
        host: &dyn Host,
        base: &BasePath,
        is_behind_mod_fcgid: bool,
    ) {
        if let Some(format) = self.format {
            self.pages.prepare(format, host, base, is_behind_mod_fcgid);
        }
    }

    /// Returns for how many more seconds a part is quarantined after repeated crashes; `None` if it is not.
    pub(crate) fn quarantined_for(&self, part: &str) -> Option<u64> {
        self.quarantine.seconds_left(part)
    }
}

/// Sets the listening socket to hand to the next image; on descriptor 0 if it came from there.
pub(crate) fn set_listener(listener: Option<BorrowedFd<'_>>, is_on_stdin: bool) {
    CRASH_PLAN.set_listener(listener, is_on_stdin);
}

/// Sets the launcher's file to pass on to the next image; at most 64 bytes of it are kept.
pub(crate) fn set_origin(file: &str) {
    CRASH_PLAN.set_origin(file);
}

/// Makes this process, which may be a fork of the one that installed the handlers, exit after the replies instead
/// of restarting in place: it is about to exit anyway.
pub(crate) fn exit_afterwards() {
    if CRASH_PLAN.is_installed() {
        CRASH_PLAN.set_mode(Mode::Exit);
        CRASH_PLAN.set_listener(None, false);
        watchdog::take_over();
    }
}
