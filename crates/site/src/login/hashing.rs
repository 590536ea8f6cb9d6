//! Checks and hashes passwords outside the event loop, a few at a time.
//!
//! One check keeps a processor busy for some tenths of a second. So it is a child process's work, and needs a
//! permit, of which there are few (`queue.rs`). Nothing is ever computed in the loop, where all other visitors
//! would wait for it: where the system gives no child, the answer is 503.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use event_loop::fork::{self, Failure};

use super::queue::{Busy, PATIENCE, Permit, Queue};
use crate::password::Password;
use crate::pause::pause;

/// How long until the system is asked again for a process that it did not give: 200 ms.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The limit for checking a password. It normally takes some tenths of a second; this allows for a slow
/// machine.
const LIMITS: fork::Limits = fork::Limits {
    cpu: Duration::from_secs(30),
    wall: Duration::from_secs(60),
    memory: 64 << 20,
    file_size: 1 << 20,
};

/// Checks and hashes passwords, in turn.
pub(crate) struct Hashing {
    queue: Queue,
}

/// Whether others wait while this process computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// It serves other visitors, too.
    Shared,
    /// It serves this one request and ends (CGI), or is a command at the terminal.
    OfThisRequest,
}

impl Hashing {
    /// `queue`: the folder of the queue's files, one for all processes of the site.
    pub(crate) fn new(queue: PathBuf) -> Self {
        Hashing { queue: Queue::new(queue) }
    }

    /// Waits for leave to check this password; `None` for one that takes no time. To be asked for before the try
    /// is counted: so a full queue costs neither a try nor a write.
    ///
    /// # Errors
    /// When too many wait already, or it takes too long.
    pub(crate) async fn permit(&self, password: &Password) -> Result<Option<Permit<'_>>, Busy> {
        if password.is_slow() { self.queue.enter().await.map(Some) } else { Ok(None) }
    }

    /// Makes the hash of a password, in its turn.
    ///
    /// # Errors
    /// As [`Hashing::permit`]; when the system gives no process for it, or no random bytes.
    pub(crate) async fn hash_of(&self, text: &str, process: Process) -> Result<String, Busy> {
        let permit = self.queue.enter().await?;
        let hash = || Password::make_hash(text).unwrap_or_default().into_bytes();
        let hash = String::from_utf8(permit.compute(process, hash).await?);
        let hash = hash.ok().filter(|hash| !hash.is_empty());
        hash.ok_or_else(|| Busy("the system provides no random bytes".to_owned()))
    }
}

/// Tells whether this is the password.
///
/// # Errors
/// When the system gives no process for it; nothing is known about the password then.
pub(crate) async fn is(
    password: &Password,
    text: &str,
    permit: Option<Permit<'_>>,
    process: Process,
) -> Result<bool, Busy> {
    match permit {
        Some(permit) => {
            let work = || vec![u8::from(password.is(text))];
            Ok(permit.compute(process, work).await? == [1])
        }
        None => Ok(password.is(text)),
    }
}

impl Permit<'_> {
    async fn compute(self, process: Process, work: impl Fn() -> Vec<u8>) -> Result<Vec<u8>, Busy> {
        if process == Process::OfThisRequest {
            return Ok(work());
        }
        let mut was_lost = false;
        loop {
            match fork::compute(LIMITS, &work).await {
                Ok(value) => return Ok(value),
                Err(failure) if failure.is_for_now() && self.since.elapsed() < PATIENCE => {
                    pause(ASKED_AGAIN_AFTER).await;
                }
                // After an upgrade this is a copy of the process that started the child.
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

    /// With several threads, as in a test, no process can be forked: that is as a host without a process to
    /// spare. Computed in place it would have said yes.
    #[test]
    fn without_a_child_nothing_is_computed_in_the_loop() {
        let hash = Password::make_hash("correct horse").unwrap();
        let password = Password::from_hash(&hash).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let hashing = Hashing::new(folder.path().join("queue"));
        event_loop::run(async move {
            let permit = async || hashing.permit(&password).await.unwrap();
            let checked = is(&password, "correct horse", permit().await, Process::Shared).await;
            let page = HttpError::from(checked.expect_err("it is not looked at"));
            assert_eq!(page.status(), 503);
            assert!(hashing.hash_of("correct horse", Process::Shared).await.is_err());
            let process = Process::OfThisRequest;
            let alone = is(&password, "correct horse", permit().await, process).await;
            assert!(alone.is_ok_and(|is| is), "a process of its own may");
        })
        .unwrap();
    }
}
