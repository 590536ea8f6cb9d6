//! What can go wrong with the store, and what its owner can do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use postgres_pool::PoolError;
use postgres_pool::tokio_postgres;
use postgres_pool::tokio_postgres::error::SqlState;

/// Why an operation on the store failed. As text: what happened and what the owner can do, without a period.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// Other processes held the file for longer than [`PATIENCE`](crate::PATIENCE).
    Busy,
    /// The file system of this folder has no locks (ENOLCK).
    NoLocks(PathBuf),
    /// The file is not an intact database; what SQLite says about it.
    Damaged(String),
    /// The disk or the account's quota is full.
    Full,
    /// A newer version of the program has changed the tables, and this one cannot use them.
    Newer {
        /// Of which schema.
        schema: String,
        /// How many migrations were applied.
        found: i64,
        /// How many this program knows.
        known: i64,
    },
    /// Other versions of the program change the tables again and again.
    SchemaChanged,
    /// A migration that was applied is another one in this program.
    Altered {
        /// Of which schema.
        schema: String,
        /// Which; the first is 1.
        number: i64,
    },
    /// Other accounts can create files in the folder, and its permissions cannot be tightened.
    Exposed {
        /// Which.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The folder is another account's.
    ForeignFolder {
        /// Which.
        folder: PathBuf,
        /// Whose: the uid.
        account: u32,
    },
    /// Other accounts can replace files in the folder for the copy.
    Replaceable {
        /// Which.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file that a copy was to replace is something else.
    NotACopy(PathBuf),
    /// A copy cannot be written where it was wanted.
    Target {
        /// Which folder.
        folder: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file cannot take the place of the store.
    NotRestorable {
        /// Which.
        file: PathBuf,
        /// The reason: a sentence without a period.
        why: String,
    },
    /// The store has moved to another place.
    Moved,
    /// The store is the target of a move that is not finished.
    Unfinished,
    /// There is nothing to move.
    NothingToMove,
    /// Something is already where a store was to be moved.
    NotEmpty,
    /// Source and target of a move are one store.
    SamePlace,
    /// A move was interrupted after everything had been copied; why. Doing it again finishes it.
    MoveUnfinished(Box<StoreError>),
    /// Another program has made a table that this one needs, by its name.
    ForeignTable(String),
    /// A table was removed that the program has made.
    MissingTable(String),
    /// The account of the database server lacks a right; what it may not do.
    MissingRight(String),
    /// The database server only reads.
    ReadOnly,
    /// Tables that no part of the program knows, and that would be left behind.
    UnknownTables(Vec<String>),
    /// A table cannot be moved as it is.
    NotMovable {
        /// Which.
        table: String,
        /// The reason: a sentence without a period.
        why: String,
    },
    /// Another process is moving it, or something to its place.
    BeingMoved,
    /// Somebody changed the store while it was moved.
    ChangedMeanwhile,
    /// A file in our folder belongs to another account.
    Foreign(PathBuf),
    /// A file or folder cannot be used.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file cannot be opened, read, locked or written; what SQLite says.
    Disk {
        /// What it was doing.
        said: String,
        /// The system's last error: the reason, as far as that can be known.
        error: io::Error,
    },
    /// Other processes kept changing the same rows for [`PATIENCE`](crate::PATIENCE).
    Conflict,
    /// There is no connection to the database server.
    Unreachable(PoolError),
    /// The connection broke while a change was being committed, and it cannot be found out whether it was made.
    Uncertain,
    /// The system provides no random numbers.
    NoRandomness,
    /// The store is on a database server, which has its own means for this.
    NotAFile,
    /// Anything else that concerns a statement or its result.
    Sql(SqlError),
}

impl StoreError {
    pub(crate) fn file(path: &Path, error: io::Error) -> Self {
        StoreError::File { path: path.to_owned(), error }
    }
}

impl StoreError {
    /// Returns whether a row was refused by a constraint of its table: PRIMARY KEY, UNIQUE, NOT NULL, REFERENCES or
    /// CHECK.
    pub fn is_constraint(&self) -> bool {
        match self {
            StoreError::Sql(error) => {
                error.sqlite_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
                    || error.postgres_state().is_some_and(|state| state.code().starts_with("23"))
            }
            _ => false,
        }
    }

    /// Returns whether the program is wrong, so that trying again is of no use: a statement that the engine does not
    /// understand, a row that a constraint refused, a result of another type.
    pub fn is_mistake(&self) -> bool {
        let StoreError::Sql(SqlError { said }) = self else { return false };
        match said {
            Said::Mistake(_) => true,
            Said::Sqlite(error) => {
                use rusqlite::ErrorCode::{
                    ConstraintViolation, ParameterOutOfRange, TypeMismatch, Unknown,
                };
                // Without a code: not SQLite's, but rusqlite's about values. Unknown: SQLITE_ERROR, about the statement.
                let code = error.sqlite_error_code();
                code.is_none_or(|code| {
                    [ConstraintViolation, ParameterOutOfRange, TypeMismatch, Unknown]
                        .contains(&code)
                })
            }
            // Classes of SQLSTATE: data, constraints, syntax and names.
            Said::Postgres(error) => error.code().is_some_and(|state| {
                ["22", "23", "42"].iter().any(|class| state.code().starts_with(class))
                    && *state != SqlState::INSUFFICIENT_PRIVILEGE
            }),
        }
    }

    /// Returns what visitors may be told, in whole sentences, if the store is unavailable: trying again may help. `None` for
    /// mistakes ([`is_mistake`](Self::is_mistake)).
    pub fn for_visitors(&self) -> Option<&'static str> {
        match self {
            error if error.is_mistake() => None,
            StoreError::Busy | StoreError::Conflict => Some("The site is busy. Please try again."),
            _ => Some("The site's data is unavailable. Its owner can find the cause in the log."),
        }
    }

    /// Returns whether the store is for other programs than this one, which only their owner can change: tables of another
    /// version, or a store that has moved.
    pub fn is_of_other_programs(&self) -> bool {
        matches!(
            self,
            StoreError::Newer { .. }
                | StoreError::Altered { .. }
                | StoreError::Moved
                | StoreError::Unfinished
        )
    }

    pub(crate) fn no_loop(error: io::Error) -> Self {
        SqlError::mistake(format!("no event loop can be run here ({error})")).into()
    }

    pub(crate) fn postgres(error: tokio_postgres::Error) -> Self {
        SqlError { said: Said::Postgres(error) }.into()
    }

    /// Returns whether the transaction may succeed if it is repeated, because another one was in its way.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            StoreError::Conflict => true,
            StoreError::Sql(error) => error.postgres_state().is_some_and(|state| {
                [
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::T_R_DEADLOCK_DETECTED,
                    SqlState::LOCK_NOT_AVAILABLE,
                ]
                .contains(state)
            }),
            _ => false,
        }
    }

    /// Returns whether it says no more than that an earlier statement of the transaction has failed.
    pub(crate) fn is_consequence(&self) -> bool {
        match self {
            StoreError::Sql(error) => {
                error.postgres_state() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
            }
            _ => false,
        }
    }

    /// Returns whether a table is not there, or tables are not what the program needs.
    pub(crate) fn is_about_tables(&self) -> bool {
        match self {
            StoreError::SchemaChanged => true,
            StoreError::Sql(error) => error.postgres_state() == Some(&SqlState::UNDEFINED_TABLE),
            _ => false,
        }
    }

    /// Returns whether a statement does not fit the tables that are there: those of another version, or it is wrong.
    pub(crate) fn is_about_names(&self) -> bool {
        let StoreError::Sql(error) = self else { return false };
        let is_of_names = |state: &SqlState| state.code().starts_with("42");
        error.postgres_state().is_some_and(is_of_names) && self.is_mistake()
    }

    /// Returns whether the server only reads, or this transaction does.
    pub(crate) fn is_refused_write(&self) -> bool {
        match self {
            StoreError::Sql(error) => {
                error.postgres_state() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
            }
            _ => false,
        }
    }

    /// Returns whether the connection to the server broke.
    pub(crate) fn is_disconnection(&self) -> bool {
        let StoreError::Sql(SqlError { said: Said::Postgres(error) }) = self else { return false };
        let ends_connections = |state: &SqlState| {
            [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW]
                .contains(state)
                || state.code().starts_with("08")
        };
        error.is_closed()
            || error.code().is_some_and(ends_connections)
            || error.code().is_none() && is_io(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Busy => formatter.write_str(
                "other processes kept the store locked for 10 s; if that happens often, the disk is too slow",
            ),
            StoreError::NoLocks(folder) => write!(
                formatter,
                "the file system of {} has no locks (ENOLCK), without which several processes would corrupt the \
                 store; set data to a folder of your own on a local disk (ask your host for one)",
                folder.display()
            ),
            StoreError::Damaged(found) => write!(
                formatter,
                "the store is damaged ({found}); put a backup in its place with the command `restore`, or remove it to \
                 start over"
            ),
            StoreError::Full => formatter
                .write_str("the disk or this account's quota is full; free some space"),
            StoreError::Newer { schema, found, known } => write!(
                formatter,
                "the store was last used by a newer version of the program (its tables of {schema} are version \
                 {found}, this program knows {known}); install that version again, or restore an older backup"
            ),
            StoreError::Altered { schema, number } => write!(
                formatter,
                "migration {number} of {schema} is not the one that made the store's tables; a migration that has \
                 shipped must stay as it is: undo the change, and put it into a new one"
            ),
            StoreError::Exposed { folder, mode } => write!(
                formatter,
                "other accounts can put files, and so another password, into {0} (mode {mode:o}); set data to a \
                 new folder inside one that only this account can write to, such as its home folder, or run \
                 `chmod 700 {0}` if only this site uses it",
                folder.display()
            ),
            StoreError::ForeignFolder { folder, account } => write!(
                formatter,
                "{} belongs to another account (uid {account}), which can put another password there; run the \
                 site as that account, or set data to a new folder inside one that only this account can write \
                 to, such as its home folder",
                folder.display()
            ),
            StoreError::Replaceable { folder, mode } => write!(
                formatter,
                "other accounts could replace the copy in {} (mode {mode:o}); choose a folder that only this \
                 account can write to",
                folder.display()
            ),
            StoreError::NotACopy(file) => write!(
                formatter,
                "{} already exists and is not a copy of a store; choose another name",
                file.display()
            ),
            StoreError::Target { folder, error } => write!(
                formatter,
                "the folder {} cannot be used: {error}; name one that exists and that this account can write to",
                folder.display()
            ),
            StoreError::NotRestorable { file, why } => {
                write!(formatter, "{}: {why}", file.display())
            }
            StoreError::Moved => formatter.write_str(
                "the store has moved to another place by the command `store move`; set database to that place (of a \
                 file, set data to its folder and remove database)",
            ),
            StoreError::Unfinished => formatter.write_str(
                "the store is being moved here and the move is not finished; let the command finish, or run it \
                 again with both places: `store move FROM TO`",
            ),
            StoreError::NothingToMove => formatter.write_str("there is no store yet, so nothing to move"),
            StoreError::NotEmpty => formatter.write_str(
                "there is another store already where this one was to be moved; name another place, or move that one away \
                 first, by the same command",
            ),
            StoreError::SamePlace => formatter.write_str("the store is there already"),
            StoreError::MoveUnfinished(error) => write!(
                formatter,
                "everything has been copied, but the move is not finished: {error}; run the same command again"
            ),
            StoreError::ForeignTable(table) => write!(
                formatter,
                "where the store is, another program has made a table named {table}; give the site a database of its own"
            ),
            StoreError::MissingTable(table) => write!(
                formatter,
                "the store's table {table} has been removed; put a backup in the place of the store"
            ),
            StoreError::MissingRight(what) => {
                write!(formatter, "the user in the URL may not {what}{RIGHT}")
            }
            StoreError::ReadOnly => write!(formatter, "the database server only reads{READ_ONLY}"),
            StoreError::UnknownTables(names) => write!(
                formatter,
                "this version of the program does not know these tables, and cannot move them: {}; use the version \
                 that made them, or remove them",
                names.join(", ")
            ),
            StoreError::NotMovable { table, why } => {
                write!(formatter, "the table {table} cannot be moved: {why}")
            }
            StoreError::BeingMoved => formatter.write_str(
                "another command is moving it at this moment, or something to the same place; wait until that has ended",
            ),
            StoreError::ChangedMeanwhile => formatter.write_str(
                "the store was changed while it was being moved; start again",
            ),
            StoreError::Foreign(file) => write!(
                formatter,
                "{} does not belong to the same account as its folder; if you have put it there, give it to that account \
                 (chown), otherwise remove it",
                file.display()
            ),
            StoreError::File { path, error } => {
                write!(formatter, "{} cannot be used: {error}{}", path.display(), cure_of(error))
            }
            StoreError::Disk { said, error } => {
                // It need not be the reason, so it has no other cure.
                let cure = if is_full(error) { cure_of(error) } else { "" };
                write!(formatter, "SQLite: {said}; the system's last error: {error}{cure}")
            }
            StoreError::Conflict => formatter.write_str(
                "others kept changing the same rows for 10 s; if that happens often, the database server is too slow",
            ),
            StoreError::SchemaChanged => formatter.write_str(
                "other versions of the program keep changing the tables; end the older ones",
            ),
            StoreError::Unreachable(error) => error.fmt(formatter),
            StoreError::Uncertain => formatter.write_str(
                "the connection to PostgreSQL broke while a change was being committed, and the server did not come \
                 back in time to say whether it was made",
            ),
            StoreError::NoRandomness => formatter.write_str("the system provides no random numbers"),
            StoreError::NotAFile => formatter.write_str(
                "the store is in PostgreSQL, not in a file; use its own tools, such as pg_dump",
            ),
            StoreError::Sql(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for StoreError {}

/// What is wrong with a statement or its result.
#[derive(Debug)]
pub struct SqlError {
    said: Said,
}

#[derive(Debug)]
enum Said {
    Sqlite(rusqlite::Error),
    Postgres(tokio_postgres::Error),
    /// How the program uses the store is wrong, whatever the engine.
    Mistake(String),
}

impl SqlError {
    pub(crate) fn mistake(what: impl Into<String>) -> Self {
        SqlError { said: Said::Mistake(what.into()) }
    }

    pub(crate) fn sqlite(error: rusqlite::Error) -> Self {
        SqlError { said: Said::Sqlite(error) }
    }

    fn postgres_state(&self) -> Option<&SqlState> {
        match &self.said {
            Said::Postgres(error) => error.code(),
            Said::Sqlite(_) | Said::Mistake(_) => None,
        }
    }

    pub(crate) fn sqlite_code(&self) -> Option<rusqlite::ErrorCode> {
        match &self.said {
            Said::Sqlite(error) => error.sqlite_error_code(),
            Said::Postgres(_) | Said::Mistake(_) => None,
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.said {
            Said::Sqlite(error) => write!(formatter, "SQLite: {error}"),
            Said::Postgres(error) => match error.as_db_error() {
                // Its detail would contain the values.
                Some(error) => {
                    let (message, code) = (error.message(), error.code().code());
                    write!(formatter, "PostgreSQL: {message} (SQLSTATE {code})")?;
                    formatter.write_str(cure_of_state(error.code(), message))
                }
                None => {
                    write!(formatter, "PostgreSQL: {error}")?;
                    let cause = std::error::Error::source(error);
                    cause.map_or(Ok(()), |cause| write!(formatter, " ({cause})"))
                }
            },
            Said::Mistake(what) => write!(formatter, "a mistake in the program: {what}"),
        }
    }
}

impl std::error::Error for SqlError {}

/// Returns whether the system's error is the cause of an error of the protocol.
fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<io::Error>())
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        StoreError::Unreachable(error)
    }
}

impl From<SqlError> for StoreError {
    fn from(error: SqlError) -> Self {
        StoreError::Sql(error)
    }
}

/// What to do about a missing right.
const RIGHT: &str =
    "; give it that right (GRANT), or make it the owner of the database and its tables";

/// What to do about a server that only reads.
const READ_ONLY: &str = "; if it is a standby, name the server that also writes, otherwise turn \
                         default_transaction_read_only off";

/// Returns what to do about an error of PostgreSQL's, where its message does not say it.
fn cure_of_state(state: &SqlState, message: &str) -> &'static str {
    let is_standby = *state == SqlState::FEATURE_NOT_SUPPORTED && message.contains("standby");
    match *state {
        SqlState::INSUFFICIENT_PRIVILEGE => RIGHT,
        SqlState::READ_ONLY_SQL_TRANSACTION => READ_ONLY,
        _ if is_standby => READ_ONLY,
        SqlState::INVALID_SCHEMA_NAME => {
            "; none of the schemas in the user's search_path is there for it: create one, or GRANT USAGE, CREATE ON SCHEMA"
        }
        _ => "",
    }
}

/// Returns what to do, where the system's message does not say it.
fn cure_of(error: &io::Error) -> &'static str {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotFound
        | ErrorKind::NotADirectory => {
            "; it has to be writable for the account the site runs as, or set data to a folder that is"
        }
        _ if is_full(error) => "; free some space",
        _ => "",
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
