//! What is done when the process cannot go on: a fatal signal, a loop that stalls.
//!
//! The handler may neither allocate nor take a lock nor trust the heap. So everything it needs lies ready
//! in advance: the open connections and the requests in flight in the tables of `in_flight.rs`, the answers to
//! send, word for word, in `prepared.rs` (made by `pages.rs`). What the handler does, and which bytes of FastCGI it
//! owes whom, is in `settle.rs`; the last line of the log in `report.rs`. `guard.rs` installs all of it,
//! `watchdog.rs` notices a loop that stalls, `quarantine.rs` leaves alone what crashes again and again,
//! `panics.rs` is for code that fails in an orderly way.
//!
//! The server holds a [`Recovery`]; the request path a [`ConnectionGuard`] and a [`RequestGuard`] each, and runs foreign code
//! through a [`Mark`]. While nothing is installed all that does nothing.
//!
//! With no request ever begun the signal does what it does by default: a program that crashes at its
//! start ends, and does not go round for ever.

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

use crate::cgi_vars::base_path::BasePath;
use crate::host::Host;
use crate::settings::Settings;
use pages::Pages;
use quarantine::Quarantine;

/// What one server has to do with all this.
pub(crate) struct Recovery {
    /// How requests come in, when the handlers are installed.
    format: Option<ReplyFormat>,
    pages: Pages,
    quarantine: Quarantine,
}

impl Recovery {
    /// For a server whose replies have this format. Create the [`CrashGuard`] first, if there is to be one.
    pub(crate) fn new(settings: &Settings, format: ReplyFormat) -> Recovery {
        Recovery {
            format: in_flight::is_installed().then_some(format),
            pages: Pages::default(),
            quarantine: Quarantine::new(settings.state_folder.as_deref()),
        }
    }

    /// For a process that may crash with its one request: what is quarantined is not tried all the same.
    pub(crate) fn without_handlers(settings: &Settings) -> Recovery {
        Recovery {
            format: None,
            pages: Pages::default(),
            quarantine: Quarantine::new(settings.state_folder.as_deref()),
        }
    }

    /// Creates the folder in which crashes are recorded, if they are.
    pub(crate) fn make_folder(&self, settings: &Settings) {
        if self.format.is_some() {
            guard::make_folder(settings);
        }
    }

    /// Prepares the pages for a site mounted there, unless that is done.
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

    /// For how many more seconds a part of the program is quarantined, after repeated crashes; `None` if it is not.
    pub(crate) fn seconds_of_quarantine(&self, part: &str) -> Option<u64> {
        self.quarantine.seconds_left(part)
    }
}

/// From now on this process, which may be a copy of the one that installed all this, ends after the answers and
/// does not restart in place: it is ending anyway.
pub(crate) fn end_afterwards() {
    settle::restart_afterwards(false);
    settle::own();
    watchdog::take_over();
}
