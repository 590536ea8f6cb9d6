//! An open connection: its client, and the task that moves its bytes.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use event_loop::Task;
use tokio_postgres::{AsyncMessage, Client, Connection, Error, Statement};

use crate::endpoint::Endpoint;
use crate::inbox::Inbox;
use crate::statements::Statements;
use crate::tls::EncryptedStream;
use crate::wire::Wire;

/// An open connection. Its drop closes the socket at once.
pub(crate) struct Open {
    pub(crate) client: Client,
    pub(crate) statements: Mutex<Statements>,
    pub(crate) endpoint: Endpoint,
    /// Ends when the server has closed the connection.
    pub(crate) task: Task<()>,
    /// What the server has notified it of.
    pub(crate) inbox: Arc<Inbox>,
    /// Whether the server has been told to close it.
    pub(crate) is_leaving: Arc<AtomicBool>,
}

impl Open {
    pub(crate) fn new(
        client: Client,
        mut connection: Connection<Wire, EncryptedStream>,
        endpoint: Endpoint,
        is_leaving: Arc<AtomicBool>,
    ) -> Open {
        let place = endpoint.clone();
        let inbox = Arc::new(Inbox::default());
        let notified = Arc::clone(&inbox);
        let task = event_loop::spawn(async move {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(_))) => notified.put(),
                    // A notice: PostgreSQL says more than it has to.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(endpoint = %place, %error, "Lost a connection to PostgreSQL");
                        break;
                    }
                    None => break,
                }
            }
            notified.close();
        });
        let statements = Mutex::new(Statements::new());
        Open { client, statements, endpoint, task, inbox, is_leaving }
    }

    /// Returns the statement of this SQL, prepared at its first use.
    pub(crate) async fn prepare_cached(&self, sql: &str) -> Result<Statement, Error> {
        let known = self.statements().find(sql);
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        let oldest = self.statements().add(sql, statement.clone());
        // Its drop closes it in PostgreSQL.
        drop(oldest);
        Ok(statement)
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, Statements> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Open").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
