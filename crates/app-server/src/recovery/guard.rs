//! Crash guard, watchdog and memory limit, as the settings want them.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::atomic::Ordering;

use atomic_file::{Access, close_to_others};
use process::memory_limit::{MemoryLimit, limit_memory};
use process::reexec::Image;

use super::in_flight::{INSTALLED, ReplyFormat};
use super::pages::prepare_plain;
use super::settle::{self, Installation};
use super::{quarantine, watchdog};
use crate::settings::Settings;

/// Keeps crash guard, watchdog and memory limit in force.
pub(crate) struct CrashGuard {
    _limit: Option<MemoryLimit>,
    // Dropped before the guard, into whose handler it leads.
    _watch: Option<watchdog::Watch>,
    _guard: Option<Handlers>,
}

impl CrashGuard {
    /// Begins. What cannot be had is told in the log, and the server goes on without.
    pub(crate) fn begin(settings: &Settings, format: ReplyFormat) -> CrashGuard {
        let mut begun = CrashGuard { _limit: None, _watch: None, _guard: None };
        if settings.crash_guard {
            begun._guard = said("the crash guard", install(settings, format));
            let seconds = settings.watchdog.filter(|_| begun._guard.is_some());
            begun._watch = said("the watchdog", watchdog::begin(seconds));
        }
        if let Some(bytes) = settings.memory {
            begun._limit = said("the memory limit", limit_memory(bytes));
        }
        begun
    }
}

fn said<T>(what: &str, result: io::Result<Option<T>>) -> Option<T> {
    result.unwrap_or_else(|error| {
        tracing::warn!("Continuing without {what}: {error}.");
        None
    })
}

fn install(settings: &Settings, format: ReplyFormat) -> io::Result<Option<Handlers>> {
    let is_cgi = format == ReplyFormat::Cgi;
    let image = if is_cgi { None } else { Some(Image::of_this_process()?) };
    let crashes = settings.state_folder.as_deref().map(quarantine::file_in);
    let guard = install_handlers(Installation { image, crashes })?;
    if guard.is_some() && is_cgi {
        // Plain, for the site's pages take time to make, and this process has one request alone.
        prepare_plain(ReplyFormat::Cgi)?;
    }
    Ok(guard)
}

/// Creates the folder in which the guard records crashes, and closes it to other accounts, since its contents
/// are trusted. Only once the server listens: a failed start leaves nothing behind.
pub(super) fn make_folder(settings: &Settings) {
    let Some(folder) = settings.state_folder.as_deref() else { return };
    // Without it nothing is quarantined, but everything else works.
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        tracing::warn!("The folder {} could not be created: {error}.", folder.display());
        return;
    }
    match close_to_others(folder) {
        Ok(Access::OursAlone) => {}
        Ok(Access::Tightened) => tracing::warn!(
            "{} was writable by other accounts; permissions tightened.",
            folder.display()
        ),
        Ok(Access::Foreign(account)) => tracing::warn!(
            "{} belongs to another account (uid {account}), which can change what this site remembers.",
            folder.display()
        ),
        Ok(Access::Open(mode)) => tracing::warn!(
            "{} is writable by other accounts (mode {mode:o}), who can change what this site remembers.",
            folder.display()
        ),
        Err(error) => tracing::warn!("{} cannot be checked: {error}.", folder.display()),
    }
}

/// Keeps the handlers installed.
#[derive(Debug)]
struct Handlers {
    _handlers: sys::fatal::Guard,
}

/// Catches SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT from now until the guard is dropped.
///
/// Does nothing, and returns `None`, when the process has several threads or somebody has installed it
/// already: what is known here is one loop's.
///
/// # Errors
/// When there is no memory for the stack that handlers run on.
fn install_handlers(installation: Installation) -> io::Result<Option<Handlers>> {
    if sys::threads::count()? > 1 || INSTALLED.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    settle::restart_afterwards(true);
    settle::set_up(installation)
        .and_then(|()| sys::fatal::catch(settle::on_fatal))
        .map(|handlers| Some(Handlers { _handlers: handlers }))
        .inspect_err(|_| INSTALLED.store(false, Ordering::Relaxed))
}

impl Drop for Handlers {
    fn drop(&mut self) {
        // The handlers are given back after this: until then they find nobody to answer.
        INSTALLED.store(false, Ordering::Relaxed);
    }
}
