//! Who may check a password now: [`MAX_PERMITS`] requests in all processes of the site together; [`MAX_WAITING`] more
//! wait in order, and the rest are refused at once.
//!
//! Behind mod_fcgid each process has one request at a time, so the processes have to agree. They share a folder in
//! which each slot, a [`Permit`] or a position in the queue, is a locked file (`flock(2)`). A lock ends with its
//! process, however that ends. Nobody is notified when a lock is released, so a waiting request polls, every
//! [`POLL_EVERY`], for the slot ahead of its own: first come, first served.
//!
//! A file system without such locks is no reason to close the login: there each process has a queue of its own.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::http::error::HttpError;
use event_loop::time::pause;
use storage::{Trust, private_folder_of};

/// Concurrent checks. Two, so that one that hangs does not close the login.
const MAX_PERMITS: usize = 2;

/// Requests that wait for a permit. Each occupies a process of mod_fcgid, and a host allows an account ten or twenty.
/// At some tenths of a second per check, these are done within a second or two.
const MAX_WAITING: usize = 4;

/// All slots: those with the lowest numbers are permits, the others positions in the queue.
const SLOTS: usize = MAX_PERMITS + MAX_WAITING;

/// How long a request waits for a permit: 10 s. Web servers give up after 40 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How often a waiting request tries the slot ahead: every 25 ms, a tenth of a check.
const POLL_EVERY: Duration = Duration::from_millis(25);

/// The queue of all processes, as this one sees it.
pub(super) struct Queue {
    /// The folder of the slots' files, which are named by number. Created when first needed.
    folder: PathBuf,
    trust: Trust,
    /// Which slots this process holds: all that is known where files cannot be locked.
    taken: Mutex<[bool; SLOTS]>,
    warned: Once,
}

impl Queue {
    pub(super) fn new(folder: PathBuf, trust: Trust) -> Self {
        Queue { folder, trust, taken: Mutex::default(), warned: Once::new() }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// At once if [`MAX_WAITING`] wait already; after [`PATIENCE`].
    pub(super) async fn enter(&self) -> Result<Permit<'_>, Busy> {
        let since = Instant::now();
        let mut slot = self.take(MAX_PERMITS..SLOTS).ok_or_else(|| {
            Busy(format!("password check queue full ({MAX_WAITING} waiting in all processes)"))
        })?;
        while slot.number >= MAX_PERMITS {
            let ahead = match slot.number {
                MAX_PERMITS => 0..MAX_PERMITS,
                number => number - 1..number,
            };
            match self.take(ahead) {
                Some(ahead) => slot = ahead,
                None if since.elapsed() < PATIENCE => pause(POLL_EVERY).await,
                None => {
                    let seconds = PATIENCE.as_secs();
                    return Err(Busy(format!(
                        "password check timed out in the queue after {seconds} s"
                    )));
                }
            }
        }
        Ok(Permit { _slot: slot, since })
    }

    /// Takes the first of these slots that is free.
    fn take(&self, mut slots: Range<usize>) -> Option<Slot<'_>> {
        slots.find_map(|number| {
            if std::mem::replace(&mut self.taken()[number], true) {
                return None;
            }
            let mut slot = Slot { queue: self, number, lock: None };
            match self.lock(number) {
                Ok(lock) => slot.lock = Some(lock),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => self.warn_once(&error),
            }
            Some(slot)
        })
    }

    /// Locks the file of a slot; `WouldBlock` if another process holds it.
    fn lock(&self, number: usize) -> io::Result<Lock> {
        let path = self.folder.join((number + 1).to_string());
        let open = || {
            let mut options = OpenOptions::new();
            // For writing, as NFS requires; by nobody else, who could hold the lock forever.
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)
        };
        let file = open().or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                private_folder_of(&path, self.trust).map_err(io::Error::other)?;
                open()
            }
            _ => Err(error),
        })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(Errno::INTR) => Err(Errno::WOULDBLOCK.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn warn_once(&self, error: &io::Error) {
        self.warned.call_once(|| {
            tracing::warn!(
                folder = %self.folder.display(),
                "Cannot lock files: {error}. Each process checks up to {MAX_PERMITS} passwords at a time, instead of \
                 all together. Set data to a folder of your own on a local disk."
            );
        });
    }

    fn taken(&self) -> MutexGuard<'_, [bool; SLOTS]> {
        // Every change is complete before anything can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permission to check or hash one password, until it is dropped.
pub(crate) struct Permit<'a> {
    _slot: Slot<'a>,
    /// When it was requested.
    pub(super) since: Instant,
}

/// A slot that is taken, until it is dropped.
struct Slot<'a> {
    queue: &'a Queue,
    number: usize,
    lock: Option<Lock>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        // The lock first, so that no other task here finds it held.
        self.lock = None;
        self.queue.taken()[self.number] = false;
    }
}

/// A locked file.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough: children that were forked meanwhile have it open as well.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// A password was not checked; the reason, for the log.
#[derive(Debug)]
pub(crate) struct Busy(pub(super) String);

impl From<Busy> for HttpError {
    fn from(Busy(cause): Busy) -> Self {
        HttpError::new(StatusCode::SERVICE_UNAVAILABLE)
            .message(format!(
                "Too many login attempts right now, so yours wasn't checked. Try again in \
                 {RETRY_SECONDS} seconds."
            ))
            .retry_after(RETRY_SECONDS)
            .fault("login")
            .cause(cause)
    }
}

/// When to try again, in seconds (`Retry-After`).
const RETRY_SECONDS: u32 = 5;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::future::Future;
    use std::os::unix::fs::PermissionsExt;
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Permit<'a>, Busy>> + 'a>>;

    /// Enters the queue and has no permit yet.
    fn waiting(queue: &Queue) -> Entering<'_> {
        let mut entering: Entering<'_> = Box::pin(queue.enter());
        assert!(is_waiting(&mut entering));
        entering
    }

    fn is_waiting(entering: &mut Entering<'_>) -> bool {
        entering.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn in_a_loop(test: impl AsyncFnOnce(PathBuf)) {
        let folder = tempfile::tempdir().unwrap();
        event_loop::run(test(folder.path().join("data/queue"))).unwrap();
    }

    #[test]
    fn two_get_permits_four_wait_in_order_and_the_rest_are_refused_at_once() {
        in_a_loop(async |folder| {
            let processes: Vec<_> =
                (0..7).map(|_| Queue::new(folder.clone(), Trust::default())).collect();
            let mut permits = Vec::new();
            for process in &processes[..2] {
                permits.push(process.enter().await.unwrap());
            }
            let mut line: Vec<_> = processes[2..6].iter().map(waiting).collect();
            let started = Instant::now();
            let busy = processes[6].enter().await.err().unwrap();
            assert!(started.elapsed() < PATIENCE / 2 && format!("{busy:?}").contains("queue full"));
            permits.pop();
            pause(2 * POLL_EVERY).await;
            assert!(line[1..].iter_mut().all(is_waiting), "the first one has not left");
            permits.push(line.remove(0).await.unwrap());
            // A request that gives up makes room for those behind it.
            drop(line.remove(0));
            pause(2 * POLL_EVERY).await;
            assert!(line.iter_mut().all(is_waiting));
            let last = waiting(&processes[6]);
            permits.clear();
            for entering in line.into_iter().chain([last]) {
                drop(entering.await.unwrap());
            }
            let file = fs::metadata(folder.join("1")).unwrap();
            let of_folder = fs::metadata(&folder).unwrap();
            let modes = [file, of_folder].map(|found| found.permissions().mode() & 0o777);
            assert_eq!(modes, [0o600, 0o700], "another account could hold a lock");
        });
    }

    /// Like a child that was forked meanwhile and holds it open.
    #[test]
    fn a_permit_ends_even_if_its_file_is_open_elsewhere() {
        in_a_loop(async |folder| {
            let (process, other) = (
                Queue::new(folder.clone(), Trust::default()),
                Queue::new(folder, Trust::default()),
            );
            let permits = [process.enter().await.unwrap(), process.enter().await.unwrap()];
            let copy = |permit: &Permit<'_>| permit._slot.lock.as_ref().unwrap().0.try_clone();
            let _copies = permits.each_ref().map(|permit| copy(permit).unwrap());
            drop(permits);
            let _permit = other.enter().await.unwrap();
        });
    }

    #[test]
    fn without_locks_each_process_has_its_own_queue() {
        in_a_loop(async |folder| {
            fs::write(folder.parent().unwrap().parent().unwrap().join("data"), "no folder")
                .unwrap();
            let processes = [(); 2].map(|()| Queue::new(folder.clone(), Trust::default()));
            let mut permits = Vec::new();
            for process in &processes {
                permits.push(process.enter().await.unwrap());
                permits.push(process.enter().await.unwrap());
                let _line: Vec<_> = (0..MAX_WAITING).map(|_| waiting(process)).collect();
                assert!(process.enter().await.is_err());
            }
        });
    }
}
