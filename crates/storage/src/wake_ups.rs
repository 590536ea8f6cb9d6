//! Waking those who wait for something in the store, in all processes.
//!
//! PostgreSQL notifies a connection that listens; a file has to be looked at again and again.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use event_loop::time::{sleep, timeout};
use postgres_pool::Listener;
use send_wrapper::SendWrapper;

use crate::error::StoreError;
use crate::params;
use crate::session::Dialect;
use crate::transaction::{Snapshot, Transaction};
use crate::{Engine, Store};

/// How often a file is looked at: twice a second, some tens of microseconds each time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After how long [`WakeUps::woken`] returns although nobody has woken it: what was lost with a connection is not
/// delayed for longer.
const AT_THE_LATEST: Duration = Duration::from_secs(30);

/// How long to wait after the store could not be reached.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS wake_ups (topic TEXT PRIMARY KEY, number BIGINT NOT NULL)";

impl Transaction<'_> {
    /// Wakes those who wait for a topic ([`Store::wake_ups`]), in all processes, once this transaction is committed.
    /// As with tables, a tool's topics start with its name.
    ///
    /// # Errors
    ///
    /// If the statement for it fails.
    pub async fn wake(&self, topic: &str) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Postgres {
            let notify = "SELECT pg_notify($1, '')";
            return self.execute(notify, params![topic]).await.map(drop);
        }
        self.run(TABLE).await?;
        let wake = "INSERT INTO wake_ups (topic, number) VALUES ($1, 1)
                        ON CONFLICT (topic) DO UPDATE SET number = wake_ups.number + 1";
        self.execute(wake, params![topic]).await.map(drop)
    }
}

/// Waits for [`Transaction::wake`]. From [`Store::wake_ups`].
pub struct WakeUps {
    store: Store,
    topic: String,
    seen: Seen,
    /// Whether the last call could not wait.
    fails: bool,
}

/// What is known about the topic.
enum Seen {
    Nothing,
    /// The number of wake-ups so far, in a file.
    Number(i64),
    Listening(Listener),
}

impl WakeUps {
    pub(crate) fn new(store: Store, topic: &str) -> Self {
        WakeUps { store, topic: topic.to_owned(), seen: Seen::Nothing, fails: false }
    }

    /// Returns when the topic was woken since the last call. The first call returns at once, and others may without a
    /// reason, at the latest after 30 s: so look for what is to be done, then call this, and look again.
    ///
    /// While the store cannot be reached, it returns once a second.
    pub fn woken(&mut self) -> impl Future<Output = ()> + Send + use<'_> {
        SendWrapper::new(async move {
            let waited = self.wait().await;
            let has_failed = std::mem::replace(&mut self.fails, waited.is_err());
            if let Err(error) = waited {
                // Once, and not every second.
                if !has_failed {
                    tracing::warn!(topic = self.topic, "Cannot wait for wake-ups: {error}.");
                }
                self.seen = Seen::Nothing;
                sleep(TRY_AGAIN_AFTER).await;
            }
        })
    }

    async fn wait(&mut self) -> Result<(), StoreError> {
        match &mut self.seen {
            Seen::Nothing => {
                self.seen = match &*self.store.engine {
                    Engine::Postgres(engine) => Seen::Listening(engine.listen(&self.topic).await?),
                    Engine::Sqlite(_) => Seen::Number(self.number().await?),
                };
            }
            Seen::Listening(listener) => {
                // A lost connection is a wake-up, too: somebody may have tried meanwhile.
                if timeout(AT_THE_LATEST, listener.notified()).await == Ok(false) {
                    self.seen = Seen::Nothing;
                }
            }
            Seen::Number(number) => {
                let (before, started) = (*number, Instant::now());
                while started.elapsed() < AT_THE_LATEST {
                    sleep(LOOK_EVERY).await;
                    let now = self.number().await?;
                    self.seen = Seen::Number(now);
                    if now != before {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns how often the topic was woken so far.
    async fn number(&self) -> Result<i64, StoreError> {
        let find = "SELECT number FROM wake_ups WHERE topic = $1";
        let look = async |store: &Snapshot<'_>| {
            if !store.has_table("wake_ups").await? {
                return Ok(None);
            }
            store.query_opt(find, params![self.topic]).await
        };
        Ok(self.store.read(look).await?.unwrap_or(0))
    }
}

impl fmt::Debug for WakeUps {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WakeUps").field("topic", &self.topic).finish_non_exhaustive()
    }
}
