//! A PostgreSQL server of its own for a test: Debian's program in a folder of its own, with a unix socket and a free
//! port of 127.0.0.1, ended and removed by its drop.
//!
//! A server takes a quarter of a second. `initdb` takes more than one, so its result is kept in the target folder, and
//! copied to memory (30 MB). PostgreSQL refuses to run as root; then it runs as the account `postgres`, or `nobody`.
//! Durability is off: what a server has written survives its end, and not the machine's.
//!
//! [`Server::standby`] makes a copy that follows it, [`Server::promote`] makes that the primary. [`Server::kill`] and
//! [`Server::hang`] are what a machine does that fails.
//!
//! The server is killed when **the thread that started it** exits, so that a test that is killed leaves none: a server
//! for several tests is started by a thread that outlives them. Nothing of this ships.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use free_port::FreePort;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub use test_certificates::Authority;

/// The superuser, who needs no password over the unix socket, and [`PASSWORD`] over TCP.
pub const USER: &str = "postgres";

/// The superuser's password (SCRAM-SHA-256).
pub const PASSWORD: &str = "correct horse/battery@staple";

/// [`PASSWORD`] as it is written in a URL.
pub const PASSWORD_IN_URL: &str = "correct%20horse%2Fbattery%40staple";

/// A running server, or one that a test has stopped.
#[derive(Debug)]
pub struct Server {
    process: Option<Child>,
    folder: TempDir,
    account: Option<Account>,
    port: FreePort,
    /// `name=value`, as in postgresql.conf.
    settings: Vec<String>,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Connections are closed with the error 57P01.
    Fast,
    /// As in a crash: connections are lost.
    Immediate,
}

impl Server {
    /// Starts a server.
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// Starts a server with settings, `name=value` as in postgresql.conf.
    pub fn start_with(settings: &[&str]) -> Server {
        let mut server = Server::new(settings);
        server.create_data();
        server.start_again();
        server
    }

    /// Finds a folder and a port for a server.
    fn new(settings: &[&str]) -> Server {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir_in(place).unwrap();
        let account = Account::for_a_server();
        if let Some(account) = &account {
            account.give(folder.path());
        }
        Server {
            process: None,
            folder,
            account,
            port: FreePort::reserve().unwrap(),
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
        }
    }

    /// Starts a server that offers TLS with a certificate of `authority` for the name `localhost`.
    pub fn start_with_tls(authority: &Authority) -> Server {
        let mut server = Server::start();
        let (certificate, key) = authority.issue("localhost");
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let path = server.data().join(name);
            fs::write(&path, content).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&path, mode).unwrap();
            if let Some(account) = &server.account {
                account.give(&path);
            }
        }
        server.settings.push("ssl=on".to_owned());
        server.stop(Shutdown::Fast);
        server.start_again();
        server
    }

    /// Starts a standby of this server, with the same settings, and waits until it follows.
    pub fn standby(&self) -> Server {
        let settings: Vec<_> = self.settings.iter().map(String::as_str).collect();
        let mut standby = Server::new(&settings);
        standby.follow(self);
        standby
    }

    /// Makes a server that has ended, or never started, a standby of another one, and waits until it follows. Its data are
    /// replaced.
    pub fn follow(&mut self, primary: &Server) {
        assert!(self.process.is_none(), "the server runs");
        if self.data().exists() {
            fs::remove_dir_all(self.data()).unwrap();
        }
        let mut copy = self.as_account(&programs().join("pg_basebackup"));
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        copy.arg("--pgdata").arg(self.data());
        copy.args(["--username", USER, "--port", &primary.port().to_string()]);
        copy.arg("--host").arg(primary.socket_folder());
        let output = copy.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.start_and_wait();
        wait_until("the standby follows", || {
            self.psql("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'") == "1"
        });
    }

    /// Lets every commit wait until a standby has it on its disk (`synchronous_standby_names`). There has to be one.
    pub fn replicate_synchronously(&self) {
        self.set("synchronous_standby_names", "*");
        let synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        wait_until("a standby is synchronous", || self.psql(synchronous) == "1");
    }

    /// Makes a standby the primary, and waits until it writes.
    pub fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote(true, 30)"), "t", "{}", self.log());
    }

    /// Changes a setting while the server runs, to a value as `SHOW` shows it. Each connection notices with its next
    /// statement.
    pub fn set(&self, name: &str, value: &str) {
        // Neither runs in a transaction with the other.
        self.psql(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.psql("SELECT pg_reload_conf()");
        // A new process of the server has it once all others have been told.
        wait_until("the setting is in force", || self.psql(&format!("SHOW {name}")) == value);
    }

    /// Returns the URL of the database `postgres` by the unix socket.
    pub fn url(&self) -> String {
        let folder = self.socket_folder().to_str().unwrap().replace('/', "%2F");
        format!("postgres://{USER}@{folder}:{}/postgres", self.port())
    }

    /// Returns the URL of the database `postgres` by TCP, with the password; TLS is used only if `sslmode` is added.
    pub fn tcp_url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD_IN_URL}@localhost:{}/postgres", self.port())
    }

    /// Returns the port, which is also part of the name of the unix socket.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the folder of the unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs SQL by psql, as the superuser, and returns the rows: a line each, columns separated by `|`.
    pub fn psql(&self, sql: &str) -> String {
        let mut command = Command::new(programs().join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]);
        command.args(["--username", USER, "--dbname", "postgres", "--command", sql]);
        command.arg("--host").arg(self.socket_folder());
        command.arg("--port").arg(self.port().to_string());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Stops the server and waits for its end. The data stay.
    pub fn stop(&mut self, how: Shutdown) {
        self.signal(match how {
            Shutdown::Fast => Signal::INT,
            Shutdown::Immediate => Signal::QUIT,
        });
        if let Some(mut process) = self.process.take() {
            process.wait().unwrap();
        }
    }

    /// Kills all processes of the server at once, as if its machine had lost power. The data stay.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        for process in self.hang_processes(&process) {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
        process.wait().unwrap();
        remove_shared_memory(&self.data());
    }

    /// Stops all processes of the server, as if its machine hung: connections stay open, and nobody responds.
    pub fn hang(&self) {
        let process = self.process.as_ref().expect("the server runs");
        self.hang_processes(process);
    }

    /// Returns the processes, which then do nothing any more.
    fn hang_processes(&self, postmaster: &Child) -> Vec<Pid> {
        let postmaster = Pid::from_child(postmaster);
        // First, so that it starts no more.
        kill_process(postmaster, Signal::STOP).unwrap();
        let mut processes = children_of(postmaster);
        for &process in &processes {
            let _ = kill_process(process, Signal::STOP);
        }
        processes.push(postmaster);
        processes
    }

    /// Lets the server refuse new connections (57P03) and end with the last one it has.
    pub fn refuse_connections(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            // Fails only if it has already ended.
            let _ = kill_process(Pid::from_child(process), signal);
        }
    }

    /// Starts the server again after a [`stop`](Self::stop), on the same port, and waits until it is ready.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server runs");
        self.start_and_wait();
    }

    /// Returns the server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Copies what `initdb` has made, or lets it make that first.
    fn create_data(&self) {
        let template = template_path();
        if !template.exists() {
            self.run_initdb();
            // Whole or not at all: several tests may do this at once.
            fs::create_dir_all(template.parent().unwrap()).unwrap();
            let ours = TempDir::new_in(template.parent().unwrap()).unwrap();
            let copied = ours.path().join("data");
            copy(&self.data(), &copied);
            // Fails if another test was faster.
            let _ = fs::rename(&copied, &template);
            return;
        }
        copy(&template, &self.data());
    }

    fn run_initdb(&self) {
        let password = self.folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        let mut initdb = self.as_account(&programs().join("initdb"));
        initdb.arg("--pgdata").arg(self.data()).arg("--pwfile").arg(&password);
        initdb.args(["--username", USER, "--auth-local=trust", "--auth-host=scram-sha-256"]);
        initdb.args(["--no-sync", "--wal-segsize=1", "--no-locale", "--encoding=UTF8"]);
        let output = initdb.output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        fs::remove_file(password).unwrap();
    }

    fn start_and_wait(&mut self) {
        let mut postgres = self.as_account(&programs().join("postgres"));
        postgres.arg("-D").arg(self.data()).arg("-k").arg(self.socket_folder());
        postgres.args(["-h", "127.0.0.1", "-p", &self.port().to_string()]);
        for setting in ["fsync=off", "full_page_writes=off", "max_wal_size=64MB"] {
            postgres.args(["-c", setting]);
        }
        // In its folder, so that a server that is killed leaves nothing elsewhere.
        postgres.args(["-c", "dynamic_shared_memory_type=mmap"]);
        for setting in &self.settings {
            postgres.args(["-c", setting]);
        }
        let log = self.folder.path().join("log");
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = postgres.spawn().unwrap();
        let start = Instant::now();
        loop {
            // Its last line says what the server is doing (as pg_ctl reads it); a standby is "standby" until it can be read
            // from, and then "ready", too.
            let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            if status.starts_with(&format!("{}\n", process.id())) && status.contains("ready") {
                self.process = Some(process);
                return;
            }
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL does not start: {}", self.log());
            assert!(start.elapsed() < PATIENCE, "PostgreSQL is not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns a command that runs as the server's account, and is killed when this thread exits.
    fn as_account(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(account) = &self.account {
            command.arg(format!("--reuid={}", account.user));
            command.arg(format!("--regid={}", account.group)).arg("--clear-groups");
        }
        command.arg("--").arg(program).current_dir(self.folder.path());
        // Neither the language nor the server of the person who runs the tests.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the children of a process that starts no more of them.
fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let children = children.split_whitespace().map(|child| child.parse().unwrap());
    children.filter_map(Pid::from_raw).collect()
}

/// Removes the segment by which PostgreSQL knows that processes of a server are left, which it cannot itself once it is
/// killed.
fn remove_shared_memory(data: &Path) {
    let status = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    // The key and the id.
    let Some(id) = status.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else {
        return;
    };
    let removed = Command::new("ipcrm").args(["--shmem-id", id]).output().unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long a test waits for what should take a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Another account than root's.
#[derive(Debug)]
struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// Returns the account that a server runs as; `None` if that is this process's own.
    fn for_a_server() -> Option<Account> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap();
        let find = |name: &str| {
            let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
            // name, password, user, group
            let mut fields = line.split(':').skip(2).map(|number| number.parse().unwrap());
            Some(Account { user: fields.next()?, group: fields.next()? })
        };
        Some(find("postgres").or_else(|| find("nobody")).expect("an account other than root's"))
    }

    fn give(&self, path: &Path) {
        chown(path, Some(self.user), Some(self.group)).unwrap();
    }
}

/// The folder of PostgreSQL's programs, of the newest version that is installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.unwrap().path()).collect();
    versions.sort_by_key(|path| version(path));
    let newest = versions.pop().expect("install Debian's package postgresql-15");
    newest.join("bin")
}

fn version(path: &Path) -> u32 {
    path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or_default()
}

/// Where what `initdb` makes is kept: in the target folder, for each version and account.
fn template_path() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    // cargo marks it.
    let is_target = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    let target = program.ancestors().find(is_target).unwrap();
    let version = version(programs().parent().unwrap());
    let owner = fs::metadata(target).unwrap().uid();
    target.join("tmp").join(format!("postgres-{version}-{owner}"))
}

/// Copies a folder with its owners and modes.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}
