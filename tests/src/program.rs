//! Starts programs for a test, ours and the web servers: each in its own process group, with the limits and
//! the user that the test asks for, and its output in a file. Each ends with its test.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::process_table;

/// How long a program may take to end after SIGTERM. Apache waits up to 8 s for its children.
const GRACE: Duration = Duration::from_secs(12);

/// What to start, and how.
#[derive(Debug)]
pub struct Start {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    clear_environment: bool,
    folder: Option<PathBuf>,
    limits: Vec<(Limit, u64)>,
    user: Option<User>,
    stdin: Option<OwnedFd>,
    log: PathBuf,
}

/// A limit of setrlimit(2), soft and hard at once.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// RLIMIT_NPROC: tasks of the whole user. At 1 a lone process cannot fork.
    Processes,
    /// RLIMIT_NOFILE: descriptors.
    Descriptors,
    /// RLIMIT_FSIZE: bytes of a file. A larger file cannot be written to any more.
    FileSize,
}

/// A user and group by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl User {
    /// The user that web servers run as if the tests run as root; `None` otherwise: everything then runs as the
    /// user who runs the tests.
    pub fn web_server() -> Option<Self> {
        is_root().then(|| Self::named("www-data").expect("Debian has a user www-data"))
    }

    /// A user without any other process, if the tests run as root.
    pub fn with_nothing_running() -> Option<Self> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        // Numbers that Debian does not assign; no entry in /etc/passwd is needed.
        let number = 70_000
            + std::process::id() % 10_000 * 16
            + NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 16;
        is_root().then_some(Self { uid: number, gid: number })
    }

    fn named(name: &str) -> Option<Self> {
        let users = fs::read_to_string("/etc/passwd").ok()?;
        let mut fields = users
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }

    /// Makes `path` belong to this user.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn own(self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

impl Start {
    /// A start of `program`, whose standard output and error go to `log`.
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            clear_environment: false,
            folder: None,
            limits: Vec::new(),
            user: None,
            stdin: None,
            log: log.into(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Does not pass on the test's own environment.
    #[must_use]
    pub fn without_environment(mut self) -> Self {
        self.clear_environment = true;
        self
    }

    /// Starts in this folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Starts with this limit.
    #[must_use]
    pub fn limit(mut self, limit: Limit, value: u64) -> Self {
        self.limits.push((limit, value));
        self
    }

    /// Starts as this user; without one, as the user who runs the tests.
    #[must_use]
    pub fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// Redirects the program's output to this path instead, such as a pipe.
    #[must_use]
    pub fn output(mut self, path: PathBuf) -> Self {
        self.log = path;
        self
    }

    /// Makes this the program's descriptor 0.
    #[must_use]
    pub fn stdin(mut self, stdin: OwnedFd) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// If the program or its log cannot be opened.
    pub fn start(self) -> io::Result<Program> {
        let name = self.program.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let explain = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("{} cannot be started: {error}", self.program.display()),
            )
        };
        let log = File::options().create(true).append(true).open(&self.log).map_err(explain)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if self.clear_environment {
            command.env_clear();
        }
        command.envs(self.environment);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdout(log.try_clone()?).stderr(log);
        command.stdin(self.stdin.map_or_else(Stdio::null, Stdio::from));
        command.process_group(0);
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        // SAFETY: the closure runs between fork and exec and makes one system call with numbers; it
        // does not allocate or take locks.
        unsafe { command.pre_exec(end_with_the_test) };
        // SAFETY: the closure runs between fork and exec and makes system calls with numbers; it does not
        // allocate or take locks.
        unsafe { command.pre_exec(default_signal_actions) };
        for (limit, value) in self.limits {
            // SAFETY: the closure runs between fork and exec and makes one system call with data it
            // owns; it does not allocate or take locks.
            unsafe { command.pre_exec(move || set_limit(limit, value)) };
        }
        let child = command.spawn().map_err(explain)?;
        Ok(Program { child, name, log: self.log })
    }
}

/// Resets the signals that the tests were started with as ignored: SIGHUP under `nohup`, SIGINT in a shell's
/// background.
fn default_signal_actions() -> io::Result<()> {
    for signal in 1..32 {
        // SAFETY: SIG_DFL is a valid action. SIGKILL and SIGSTOP are refused, and cannot be ignored anyway.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    Ok(())
}

/// Asks for SIGTERM when the thread that started this process ends, even if the tests are killed.
fn end_with_the_test() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes only a number.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_limit(limit: Limit, value: u64) -> io::Result<()> {
    let both = libc::rlimit { rlim_cur: value, rlim_max: value };
    let resource = match limit {
        Limit::Processes => libc::RLIMIT_NPROC,
        Limit::Descriptors => libc::RLIMIT_NOFILE,
        Limit::FileSize => libc::RLIMIT_FSIZE,
    };
    // SAFETY: `both` is a whole rlimit and outlives the call.
    if unsafe { libc::setrlimit(resource, &raw const both) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A running program; dropping it ends it.
#[derive(Debug)]
pub struct Program {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Program {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything the program has written so far; empty if its output is not a file.
    pub fn output(&self) -> String {
        if !self.log.is_file() {
            return String::new();
        }
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The program's exit status, if it has ended.
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    ///
    /// If the program has ended.
    pub fn signal(&mut self, signal: i32) -> io::Result<()> {
        if let Some(status) = self.ended()? {
            return Err(io::Error::other(format!("{} has ended: {status}", self.name)));
        }
        process_table::signal(self.pid(), signal)
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    ///
    /// If that takes longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} is still running after {timeout:?}", self.name),
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until `ready` returns true.
    ///
    /// # Errors
    ///
    /// If the program ends before, or it takes longer than 15 s; the error includes the program's output.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !ready() {
            let problem = match self.ended()? {
                Some(status) => format!("ended ({status})"),
                None if Instant::now() > deadline => "took longer than 15 s".to_owned(),
                None => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            return Err(io::Error::other(format!(
                "{} {problem} before {what}; its output:\n{}",
                self.name,
                self.output()
            )));
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for the program to end.
    ///
    /// # Errors
    ///
    /// If it does not end in time; it is then killed.
    pub fn terminate(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        process_table::signal(self.pid(), libc::SIGTERM)?;
        let ended = self.wait(GRACE);
        if ended.is_err() {
            self.child.kill()?;
            self.child.wait()?;
        }
        ended
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Err(error) = self.terminate() {
            eprintln!("{} had to be killed: {error}", self.name);
        }
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<_> = output.lines().rev().take(40).collect();
            eprintln!("--- last output of {}:", self.name);
            for line in tail.iter().rev() {
                eprintln!("    {line}");
            }
        }
    }
}

/// Finds a program of this package, or `toolshed`, next to the running test.
///
/// `TOOLSHED_PROGRAM` is the path of the `toolshed` to test; tests/run sets it to the static one.
pub fn find(name: &str) -> PathBuf {
    if name == "toolshed"
        && let Some(path) = std::env::var_os("TOOLSHED_PROGRAM")
    {
        return path.into();
    }
    let this = std::env::current_exe().expect("a running program has a file");
    // The test itself is in target/release/deps.
    let path = this.ancestors().nth(2).expect("tests lie in target/PROFILE/deps").join(name);
    assert!(
        path.is_file(),
        "{} is missing: build it with `cargo build -p toolshed --features culprits` (and --release, if the tests \
         are), or let tests/run do it.",
        path.display()
    );
    path
}

/// Finds a later version of `toolshed`, which tests/later-versions has built: `next` or `contracting`.
///
/// # Panics
///
/// If it was not built.
pub fn find_version(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a running program has a file");
    let target = this.ancestors().nth(3).expect("tests lie in target/PROFILE/deps");
    let path = target.join("versions").join(name);
    assert!(
        path.is_file(),
        "{} is missing: build it with `tests/later-versions`, or let tests/run do it.",
        path.display()
    );
    path
}

/// Writes a file that can be executed at once.
///
/// Another process writes it: if it were open for writing here, a program that another test starts at that
/// moment would briefly inherit it, and executing it would fail with "Text file busy".
///
/// # Errors
///
/// If it cannot be written.
pub fn write_executable(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut stdin = install.stdin.take().ok_or_else(|| io::Error::other("install has no stdin"))?;
    stdin.write_all(content)?;
    drop(stdin);
    written(path, install.wait()?)
}

/// Copies a program, in another process for the same reason.
///
/// # Errors
///
/// If it cannot be copied.
pub fn copy_executable(from: &Path, to: &Path) -> io::Result<()> {
    let status = Command::new("install").args(["-m", "755"]).arg(from).arg(to).status()?;
    written(to, status)
}

/// Changes a file's time stamp to now, as `touch` does.
///
/// # Errors
///
/// If the file does not exist or belongs to another user.
pub fn touch(path: &Path) -> io::Result<()> {
    let status = Command::new("touch").arg(path).status()?;
    written(path, status)
}

fn written(path: &Path, status: ExitStatus) -> io::Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{} could not be written", path.display())))
}

/// A listening unix socket to hand to a program as its descriptor 0, as mod_fcgid does.
///
/// # Errors
///
/// If the path cannot be bound.
pub fn listening_socket(path: &Path) -> io::Result<OwnedFd> {
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    Ok(listener.into())
}

/// Duplicates a descriptor, so that the test keeps one and the program gets the other.
///
/// # Errors
///
/// If the descriptor table is full.
pub fn duplicate(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    descriptor.as_fd().try_clone_to_owned()
}

/// Raises the descriptor limit of this process and its children, for tests with many connections.
///
/// # Errors
///
/// If the hard limit is lower.
pub fn allow_descriptors(count: u64) -> io::Result<()> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limits` outlives the call, which writes to it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limits.rlim_cur >= count {
        return Ok(());
    }
    limits.rlim_cur = count;
    // SAFETY: `limits` outlives the call, which reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
