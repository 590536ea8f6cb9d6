//! Starts crash guard, watchdog and memory limit as configured.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use atomic_file::{Access, close_to_others};
use process::memory_limit::{MemoryLimit, limit_memory};
use process::reexec::Image;

use super::crash_plan::{CRASH_PLAN, Mode};
use super::pages::prepare_plain;
use super::tables::ReplyFormat;
use super::{crashes, settle, watchdog};
use crate::settings::Settings;

/// Keeps crash guard, watchdog and memory limit in force.
pub(crate) struct CrashGuard {
    _limit: Option<MemoryLimit>,
    // Dropped before the handlers, because a stall ends in `settle.rs` too.
    _watch: Option<watchdog::Watch>,
    _handlers: Option<Handlers>,
}

impl CrashGuard {
    /// Starts what the settings ask for. A failure is logged, and the server continues without that part.
    pub(crate) fn begin(settings: &Settings, format: ReplyFormat) -> CrashGuard {
        let mut guard = CrashGuard { _limit: None, _watch: None, _handlers: None };
        if settings.crash_guard {
            guard._handlers = ok_or_warn("the crash guard", install(settings, format));
            let limit = settings.watchdog.filter(|_| guard._handlers.is_some());
            guard._watch = ok_or_warn("the watchdog", watchdog::begin(limit));
        }
        if let Some(bytes) = settings.memory {
            guard._limit = ok_or_warn("the memory limit", limit_memory(bytes));
        }
        guard
    }
}

fn ok_or_warn<T>(what: &str, result: io::Result<Option<T>>) -> Option<T> {
    result.unwrap_or_else(|error| {
        tracing::warn!("Continuing without {what}: {error}.");
        None
    })
}

fn install(settings: &Settings, format: ReplyFormat) -> io::Result<Option<Handlers>> {
    let is_cgi = format == ReplyFormat::Cgi;
    let image = if is_cgi { None } else { Some(Image::of_this_process()?) };
    let crashes = settings.state_folder.as_deref().map(crashes::file_in);
    let handlers = install_handlers(image, crashes.as_deref())?;
    if handlers.is_some() && is_cgi {
        // Rendering the site's pages takes time, and this process serves only one request.
        prepare_plain(ReplyFormat::Cgi)?;
    }
    Ok(handlers)
}

/// Creates the folder in which the guard records crashes, and closes it to other accounts, since its contents
/// are trusted. Called once the server listens, so that a failed start leaves nothing behind.
pub(super) fn make_folder(settings: &Settings) {
    let Some(folder) = settings.state_folder.as_deref() else { return };
    let shown = folder.display();
    // Without the folder nothing is quarantined; everything else works.
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        tracing::warn!(folder = %shown, "Cannot create the state folder: {error}.");
        return;
    }
    match close_to_others(folder) {
        Ok(Access::Private) => {}
        Ok(Access::Tightened) => tracing::warn!(
            folder = %shown,
            "State folder was writable by other accounts; permissions tightened."
        ),
        Ok(Access::Foreign(uid)) => tracing::warn!(
            folder = %shown,
            uid,
            "State folder belongs to another account, which can change what this site remembers."
        ),
        Ok(Access::Open(mode)) => tracing::warn!(
            folder = %shown,
            mode = %format_args!("{mode:o}"),
            "State folder is writable by other accounts, which can change what this site remembers."
        ),
        Err(error) => tracing::warn!(folder = %shown, "Cannot check the state folder: {error}."),
    }
}

/// Keeps the handlers installed.
#[derive(Debug)]
struct Handlers {
    _handlers: sys::fatal::Guard,
}

/// Catches SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT until the returned value is dropped.
///
/// Returns `None` and does nothing if the process has several threads or the handlers are already installed: the
/// tables belong to a single loop.
///
/// # Errors
///
/// If there is no memory for the alternate signal stack, or `/proc` is not mounted.
fn install_handlers(image: Option<Image>, crashes: Option<&Path>) -> io::Result<Option<Handlers>> {
    if sys::threads::count()? > 1 || CRASH_PLAN.is_installed() {
        return Ok(None);
    }
    CRASH_PLAN
        .set_up(image, crashes)
        .and_then(|()| sys::fatal::catch(settle::on_fatal))
        .map(|handlers| Some(Handlers { _handlers: handlers }))
        .inspect_err(|_| CRASH_PLAN.set_mode(Mode::Off))
}

impl Drop for Handlers {
    fn drop(&mut self) {
        // The former signal actions are restored after this, when the field is dropped.
        CRASH_PLAN.set_mode(Mode::Off);
    }
}
