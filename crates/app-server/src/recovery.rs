//! What happens when the process cannot continue: after a fatal signal, or when the event loop stalls.
//!
//! The signal handler must not allocate, take a lock or trust the heap, so everything it needs is prepared in
//! advance: open connections and requests in flight in the tables of `in_flight.rs`, the replies to send, byte for
//! byte, in `prepared.rs` (built by `pages.rs`). What the handler does, and which FastCGI bytes each connection still
//! needs, is in `settle.rs`; the last log line in `report.rs`. `guard.rs` installs all of it, `watchdog.rs` detects a
//! stalled loop, `quarantine.rs` disables parts that crash repeatedly, `panics.rs` handles code that panics.
//!
//! The server holds a [`Recovery`]. The request path holds a [`ConnectionGuard`] per connection and a
//! [`RequestGuard`] per request, and runs the application's code through a [`Mark`]. Without an installed handler,
//! none of these does anything.
//!
//! Until the first request has started, a fatal signal has its default effect: a program that crashes on startup
//! exits instead of restarting forever.

mod guard;
mod in_flight;
mod pages;
pub(crate) mod panics;
mod prepared;
mod quarantine;
mod report;
mod settle;
mod watchdog;

pub(crate) use guard::CrashGuard;
pub(crate) use in_flight::{
    ConnectionGuard, InputState, Mark, ReplyFormat, RequestGuard, set_listener, set_origin,
};

pub use quarantine::{CRASHES_FILE, OLD_CRASHES_FILE};

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
            format: in_flight::is_installed().then_some(format),
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

/// Makes this process, which may be a fork of the one that installed the handlers, exit after the replies instead
/// of restarting in place: it is about to exit anyway.
pub(crate) fn end_afterwards() {
    settle::restart_afterwards(false);
    settle::own();
    watchdog::take_over();
}
