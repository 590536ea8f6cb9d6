//! Checks and hashes passwords outside the event loop, a few at a time.
//!
//! One check keeps a processor busy for some tenths of a second. So it runs in a child process and needs a permit, of
//! which there are few (`queue.rs`). Nothing is ever computed in the loop, where all other visitors would wait for it:
//! if the system refuses a child process, the response is 503.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use process::Failure;

use super::queue::{Busy, PATIENCE, Permit, Queue};
use crate::password::Password;
use event_loop::time::pause;
use storage::Trust;

/// How long to wait before asking the system again for a process that it refused.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The limits for checking a password. It normally takes some tenths of a second; this allows for a slow machine.
const LIMITS: process::Limits = process::Limits {
    cpu: Duration::from_secs(30),
    wall: Duration::from_secs(60),
    memory: 64 << 20,
    file_size: 1 << 20,
};

/// Checks and hashes passwords, as the queue allows.
pub(crate) struct Hashing {
    queue: Queue,
}

/// Whether other visitors wait while this process computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// It serves other visitors as well.
    Shared,
    /// It serves this one request and exits (CGI), or is a command at the terminal.
    OfThisRequest,
}

impl Hashing {
    /// `queue` is the folder of the queue's files, one for all processes of the site.
    pub(crate) fn new(queue: PathBuf, trust: Trust) -> Self {
        Hashing { queue: Queue::new(queue, trust) }
    }

    /// Waits for a permit to check this password; `None` for one that takes no time. Get it before the attempt is
    /// counted, so that a full queue costs neither an attempt nor a write.
    ///
    /// # Errors
    ///
    /// If too many wait already, or it takes too long.
    pub(crate) async fn permit(&self, password: &Password) -> Result<Option<Permit<'_>>, Busy> {
        if password.is_slow() { self.queue.enter().await.map(Some) } else { Ok(None) }
    }

    /// Makes the hash of a password, once the queue allows.
    ///
    /// # Errors
    ///
    /// As [`Hashing::permit`]; if the system refuses a process for it, or provides no random bytes.
    pub(crate) async fn hash_of(&self, text: &str, process: Process) -> Result<String, Busy> {
        let permit = self.queue.enter().await?;
        let hash = || Password::make_hash(text).unwrap_or_default().into_bytes();
        let hash = String::from_utf8(permit.compute(process, hash).await?);
        let hash = hash.ok().filter(|hash| !hash.is_empty());
        hash.ok_or_else(|| Busy("the system provides no random bytes".to_owned()))
    }
}

/// Returns whether this is the password.
///
/// # Errors
///
/// If the system refuses a process for it; then nothing is known about the password.
pub(crate) async fn matches(
    password: &Password,
    text: &str,
    permit: Option<Permit<'_>>,
    process: Process,
) -> Result<bool, Busy> {
    match permit {
        Some(permit) => {
            let work = || vec![u8::from(password.matches(text))];
            Ok(permit.compute(process, work).await? == [1])
        }
        None => Ok(password.matches(text)),
    }
}

impl Permit<'_> {
    async fn compute(self, process: Process, work: impl Fn() -> Vec<u8>) -> Result<Vec<u8>, Busy> {
        if process == Process::OfThisRequest {
            return Ok(work());
        }
        let mut was_lost = false;
        loop {
            match process::compute(LIMITS, &work).await {
                Ok(value) => return Ok(value),
                Err(failure) if failure.is_transient() && self.since.elapsed() < PATIENCE => {
                    pause(RETRY_AFTER).await;
                }
                // After an upgrade this is a draining child: the process that started this one is its parent.
                Err(Failure::Lost(_)) if !was_lost => was_lost = true,
                Err(failure) => {
                    return Err(Busy(format!("password check failed: {failure}")));
                }
            }
        }
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hashing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::HttpError;

    /// With several threads, as in a test, no process can be forked, as on a host that refuses processes. A check in
    /// this process would have succeeded.
    #[test]
    fn without_a_child_nothing_is_computed_in_the_loop() {
        let hash = Password::make_hash("correct horse").unwrap();
        let password = Password::from_hash(&hash).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let hashing = Hashing::new(folder.path().join("queue"), Trust::default());
        event_loop::run(async move {
            let permit = async || hashing.permit(&password).await.unwrap();
            let checked =
                matches(&password, "correct horse", permit().await, Process::Shared).await;
            let page = HttpError::from(checked.expect_err("it is not checked"));
            assert_eq!(page.status(), 503);
            assert!(hashing.hash_of("correct horse", Process::Shared).await.is_err());
            let process = Process::OfThisRequest;
            let checked = matches(&password, "correct horse", permit().await, process).await;
            assert!(checked.is_ok_and(|is| is), "a process for one request computes itself");
        })
        .unwrap();
    }
}
