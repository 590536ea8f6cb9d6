//! Several machines share what has crashed, so that a tool that crashes repeatedly is quarantined on all of them.
//!
//! The server records crashes of this machine in a file, and reads those of others from another one; in between is a
//! table of the site's store. Every few seconds while tools are requested, or when there is something to publish, a
//! task publishes and fetches. It delays no request: while the store is away, a machine knows of its own crashes only. Crashes of
//! another version of the program do not count: they say nothing about this one.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use app_server::{
    CRASHES_ELSEWHERE_FILE, CRASHES_FILE, Crash, CrashElsewhere, recent_crashes,
    set_crashes_elsewhere,
};
use event_loop::time::timeout;
use site::{KnownCrash, OwnCrash, SharedCrashes, StoreError};

use crate::program_digest;

/// How often a process asks at most.
const INTERVAL: Duration = Duration::from_secs(3);

/// How long it waits for the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one process knows of it.
#[derive(Debug)]
pub(crate) struct CrashSharing {
    crashes: SharedCrashes,
    node: String,
    state_folder: PathBuf,
    /// Identifies this version of the program; computed when it is first needed.
    program: OnceCell<String>,
    /// Whether a tool was asked for since the last time.
    is_asked: Cell<bool>,
    is_busy: Cell<bool>,
    next_look: Cell<Option<Instant>>,
    /// The length of the file of crashes when everything in it had been published.
    published_bytes: Cell<u64>,
    has_failed: Cell<bool>,
}

impl CrashSharing {
    /// Starts nothing yet. `node`: the name of this machine.
    pub(crate) fn new(crashes: SharedCrashes, node: String, state_folder: PathBuf) -> Rc<Self> {
        Rc::new(CrashSharing {
            crashes,
            node,
            state_folder,
            program: OnceCell::new(),
            is_asked: Cell::new(false),
            is_busy: Cell::new(false),
            next_look: Cell::new(None),
            published_bytes: Cell::new(0),
            has_failed: Cell::new(false),
        })
    }

    /// Notes a request for a tool: others may have had crashes of it.
    pub(crate) fn note_request(&self) {
        self.is_asked.set(true);
    }

    /// Starts a task that publishes and fetches, if it is time and there is a reason. To be called every few seconds; hardly any
    /// call costs more than a look at a file.
    pub(crate) fn look(self: &Rc<Self>) {
        let now = Instant::now();
        if self.is_busy.get() || self.next_look.get().is_some_and(|next| now < next) {
            return;
        }
        let Some(unpublished) = self.unpublished() else { return };
        self.next_look.set(Some(now + INTERVAL));
        self.is_asked.set(false);
        self.is_busy.set(true);
        let sharing = self.clone();
        event_loop::spawn(async move {
            let exchanged = timeout(PATIENCE, sharing.exchange(&unpublished)).await;
            sharing.report(exchanged.unwrap_or(Err(Failure::TimedOut)));
            sharing.is_busy.set(false);
        })
        .detach();
    }

    /// Returns what is to be published; `None` if there is no reason to use the store at all.
    fn unpublished(&self) -> Option<Unpublished> {
        let file = self.state_folder.join(CRASHES_FILE);
        // It rarely exists.
        let bytes = fs::metadata(file).map_or(0, |found| found.len());
        let mut unpublished = Unpublished { crashes: Vec::new(), bytes };
        if bytes != self.published_bytes.get() {
            // Why a file cannot be read is said where the quarantine reads it.
            unpublished.crashes = recent_crashes(&self.state_folder).unwrap_or_default();
        }
        if unpublished.crashes.is_empty() {
            self.published_bytes.set(bytes);
        }
        (self.is_asked.get() || !unpublished.crashes.is_empty()).then_some(unpublished)
    }

    /// Publishes the crashes of this machine, and fetches those of others, even if one of the two fails.
    async fn exchange(&self, unpublished: &Unpublished) -> Result<(), Failure> {
        let published = self.publish(unpublished).await;
        let fetched = self.fetch().await;
        published.and(fetched)
    }

    async fn publish(&self, unpublished: &Unpublished) -> Result<(), Failure> {
        if unpublished.crashes.is_empty() {
            return Ok(());
        }
        let own = |crash: &Crash| OwnCrash {
            second: crash.second.cast_signed(),
            position: crash.position.cast_signed(),
            tool: crash.part.clone(),
        };
        let crashes: Vec<_> = unpublished.crashes.iter().map(own).collect();
        let program = self.program().await?;
        self.crashes.publish(&self.node, program, site::storage::now(), &crashes).await?;
        self.published_bytes.set(unpublished.bytes);
        Ok(())
    }

    async fn fetch(&self) -> Result<(), Failure> {
        let known = self.crashes.known().await?;
        let mut elsewhere = Vec::new();
        if known.iter().any(|crash| crash.node != self.node) {
            let program = self.program().await?;
            let counts = |crash: &&KnownCrash| crash.node != self.node && crash.program == program;
            let now = site::storage::now();
            let here = |crash: &KnownCrash| CrashElsewhere {
                second: now.saturating_sub(crash.age).max(0).cast_unsigned(),
                node: crash.node.clone(),
                part: crash.tool.clone(),
            };
            elsewhere.extend(known.iter().filter(counts).map(here));
        }
        set_crashes_elsewhere(&self.state_folder, &elsewhere).map_err(Failure::File)
    }

    async fn program(&self) -> Result<&str, Failure> {
        if let Some(known) = self.program.get() {
            return Ok(known);
        }
        let digest = program_digest::of_this_process().await.map_err(Failure::Program)?;
        Ok(self.program.get_or_init(|| digest))
    }

    /// Logs that it no longer works, or works again.
    fn report(&self, exchanged: Result<(), Failure>) {
        match exchanged {
            Ok(()) if self.has_failed.take() => {
                tracing::info!("Crashes are shared with the other machines again.");
            }
            Err(failure) if !self.has_failed.replace(true) => tracing::warn!(
                "Crashes are not shared with the other machines; each quarantines tools by itself: {failure}."
            ),
            _ => {}
        }
    }
}

/// Crashes of this machine.
#[derive(Debug)]
struct Unpublished {
    crashes: Vec<Crash>,
    /// How long the file was before they were read.
    bytes: u64,
}

/// Why crashes are not shared.
#[derive(Debug)]
enum Failure {
    Store(StoreError),
    TimedOut,
    File(io::Error),
    Program(io::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Store(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Store(error) => error.fmt(formatter),
            Failure::TimedOut => {
                write!(formatter, "the database did not answer within {} s", PATIENCE.as_secs())
            }
            Failure::File(error) => {
                write!(
                    formatter,
                    "{CRASHES_ELSEWHERE_FILE} in the data folder cannot be written: {error}"
                )
            }
            Failure::Program(error) => write!(formatter, "the program cannot be read: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use postgres_fixture::{Server, Shutdown};
    use site::LoginSettings;

    use super::*;

    /// A machine with one process.
    struct Machine {
        folder: tempfile::TempDir,
        sharing: Rc<CrashSharing>,
    }

    impl Machine {
        fn new(server: &Server, node: &str, program: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let sharing = process(server, node, program, folder.path());
            Machine { folder, sharing }
        }

        /// Appends a crash, as the signal handler does.
        fn crash(&self, tool: &str, age: i64) {
            let file = self.folder.path().join(CRASHES_FILE);
            let before = fs::read_to_string(&file).unwrap_or_default();
            fs::write(&file, before + &format!("{} {tool}\n", site::storage::now() - age)).unwrap();
        }

        /// The crashes elsewhere, as `node tool`.
        fn elsewhere(&self) -> Vec<String> {
            let file = self.folder.path().join(CRASHES_ELSEWHERE_FILE);
            let text = fs::read_to_string(file).unwrap_or_default();
            text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
        }
    }

    fn process(server: &Server, node: &str, program: &str, folder: &Path) -> Rc<CrashSharing> {
        let database = Some(server.url().parse().unwrap());
        let login = LoginSettings { database, ..LoginSettings::in_folder(folder) };
        let crashes = SharedCrashes::in_store(login.store()).unwrap();
        let sharing = CrashSharing::new(crashes, node.to_owned(), folder.to_owned());
        sharing.program.set(program.to_owned()).unwrap();
        sharing
    }

    /// Looks as the server does, and waits until the task has ended. Returns whether there was one.
    async fn look(sharing: &Rc<CrashSharing>) -> bool {
        sharing.next_look.set(None);
        sharing.look();
        let is_busy = sharing.is_busy.get();
        while sharing.is_busy.get() {
            event_loop::time::sleep(Duration::from_millis(5)).await;
        }
        is_busy
    }

    #[test]
    fn machines_with_the_same_program_know_each_others_crashes() {
        let server = Server::start();
        let [a, b] = ["a", "b"].map(|node| Machine::new(&server, node, "v1"));
        let c = Machine::new(&server, "c", "v2");
        event_loop::run(async {
            // Nothing was asked for, and nothing has crashed.
            assert!(!look(&a.sharing).await);
            a.crash("x", 1);
            a.crash("y", 200);
            a.crash("x", 0);
            assert!(look(&a.sharing).await, "there is something to publish");
            assert!(!look(&a.sharing).await, "it was published");
            // Another process of the same machine, or the same after it has restarted.
            assert!(look(&process(&server, "a", "v1", a.folder.path())).await);
            c.crash("x", 0);
            assert!(look(&c.sharing).await);
            assert!(!look(&b.sharing).await);
            b.sharing.note_request();
            assert!(look(&b.sharing).await);
            assert_eq!(b.elsewhere(), ["a x", "a x"]);
            assert!(!look(&b.sharing).await, "nobody has asked again");
            b.crash("x", 0);
            assert!(look(&b.sharing).await);
            for (machine, expected) in [(&a, &["b x"][..]), (&b, &["a x", "a x"]), (&c, &[])] {
                machine.sharing.note_request();
                look(&machine.sharing).await;
                assert_eq!(machine.elsewhere(), expected);
            }
            // Hardly a moment later.
            a.sharing.note_request();
            a.sharing.look();
            assert!(!a.sharing.is_busy.get());
        })
        .unwrap();
    }

    #[test]
    fn what_could_not_be_told_is_told_when_the_store_is_back() {
        let mut server = Server::start();
        let [a, b] = ["a", "b"].map(|node| Machine::new(&server, node, "v1"));
        event_loop::run(async {
            server.stop(Shutdown::Fast);
            a.crash("x", 0);
            for _ in 0..2 {
                assert!(look(&a.sharing).await);
                assert!(a.sharing.has_failed.get());
            }
            server.start_again();
            while a.sharing.has_failed.get() {
                assert!(look(&a.sharing).await, "it is not published yet");
            }
            // A server that only reads.
            server.psql("ALTER DATABASE postgres SET default_transaction_read_only = on");
            let b_again = process(&server, "b", "v1", b.folder.path());
            b.crash("x", 0);
            look(&b_again).await;
            assert!(b_again.has_failed.get(), "it cannot publish");
            assert_eq!(b.elsewhere(), ["a x"]);
        })
        .unwrap();
    }

    #[test]
    fn files_of_other_accounts_are_not_told_of() {
        use std::os::unix::fs::PermissionsExt;
        let server = Server::start();
        let a = Machine::new(&server, "a", "v1");
        a.crash("x", 0);
        let file = a.folder.path().join(CRASHES_FILE);
        fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
        event_loop::run(async { assert!(!look(&a.sharing).await) }).unwrap();
    }
}
