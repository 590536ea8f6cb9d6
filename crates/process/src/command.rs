//! Starting programs: std's builder, with limits and a deadline, and nothing that is inherited by mistake.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use event_loop::pipe::{Reader, Writer};
use sys::program;

use crate::child::Child;
use crate::children::{self, Recipient};
use crate::limits::Limits;
use crate::memory_limit::Lifted;

/// A program to start: std's builder, whose words and defaults it keeps.
///
/// Inherited by default: environment, working directory, descriptors 0, 1 and 2. Nothing else, whoever has
/// opened it: all other descriptors are made close-on-exec in the child. It starts with an empty signal mask
/// and, as after every exec, without our signal handlers; and it is killed when this process ends in
/// whatever way (what it has started itself is not).
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    leads_group: bool,
    deadline: Option<Duration>,
}

impl Command {
    /// A program by its path, or by its name in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut inner = std::process::Command::new(program);
        program::inherit_nothing(&mut inner);
        Command { inner, leads_group: false, deadline: None }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.inner.args(arguments);
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(name, value);
        self
    }

    /// Sets variables of the child's environment.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        self.inner.envs(variables);
        self
    }

    /// Takes a variable out of the child's environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(name);
        self
    }

    /// Lets the child begin with an empty environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// Sets the child's working directory.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(directory);
        self
    }

    /// Says what the child reads: `Stdio::piped()` leads to [`Child::stdin`].
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.inner.stdin(stdin);
        self
    }

    /// Says where the child's output goes: `Stdio::piped()` leads to [`Child::stdout`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.inner.stdout(stdout);
        self
    }

    /// Says where the child's error messages go: `Stdio::piped()` leads to [`Child::stderr`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.inner.stderr(stderr);
        self
    }

    /// Gives the child limits: processor time, memory (in all), the size of files; and the time on the clock
    /// as [`deadline`](Self::deadline). Called again, the lower of each holds, except for the deadline.
    ///
    /// A child that goes beyond is ended by a signal: [`Failure::of`](crate::Failure::of) tells which
    /// limit it was. Memory that is refused is told to the program, which does with that what it does.
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        program::limit(&mut self.inner, limits.beyond(0));
        self.deadline(limits.wall)
    }

    /// Lets the child be killed after so long, with its group ([`lead_group`](Self::lead_group) is implied):
    /// [`Child::timed_out`] tells then.
    pub fn deadline(&mut self, deadline: Duration) -> &mut Self {
        self.deadline = Some(deadline);
        self.lead_group()
    }

    /// Lets the child lead a process group of its own. Signals, [`Child::kill`] and the kill on drop then
    /// go to the whole group: to what a shell script has started, too. When the child has ended, what is
    /// left of its group is killed.
    pub fn lead_group(&mut self) -> &mut Self {
        self.inner.process_group(0);
        self.leads_group = true;
        self
    }

    /// Gives access to std's builder, for what is not repeated here. Starting it through std is not
    /// noticed by the loop.
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.inner
    }

    /// Starts the program. Returns when the child has executed it, or could not.
    ///
    /// # Errors
    ///
    /// * When no loop runs on this thread.
    /// * What std answers: `NotFound`, `PermissionDenied`, …; `WouldBlock` (EAGAIN, "Resource temporarily
    ///   unavailable") when the account has too many processes: wait a while and try again.
    pub fn spawn(&mut self) -> io::Result<Child> {
        // SIGCHLD must find our handler, however early the child ends.
        children::watch()?;
        let limit = Lifted::for_now();
        let started = self.inner.spawn();
        drop(limit);
        let mut started = started?;
        let pipes = (started.stdin.take(), started.stdout.take(), started.stderr.take());
        // std neither kills nor reaps what it forgets.
        let number = started.id();
        let recipient =
            if self.leads_group { Recipient::Group(number) } else { Recipient::Process(number) };
        // From here on an error drops the handle, which kills and reaps.
        let mut child = Child::enter(number, recipient)?;
        if let Some(deadline) = self.deadline {
            child.expire_after(deadline);
        }
        child.stdin = pipes.0.map(|pipe| Writer::from_fd(OwnedFd::from(pipe))).transpose()?;
        child.stdout = pipes.1.map(|pipe| Reader::from_fd(OwnedFd::from(pipe))).transpose()?;
        child.stderr = pipes.2.map(|pipe| Reader::from_fd(OwnedFd::from(pipe))).transpose()?;
        Ok(child)
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Child::wait`].
    pub async fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait().await
    }

    /// Runs the program to its end and collects what it writes, at most `limit` bytes of output and as
    /// many of error messages. Standard input is inherited unless it was set.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Child::wait_with_output`].
    pub async fn output(&mut self, limit: usize) -> io::Result<Output> {
        self.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn()?.wait_with_output(limit).await
    }
}
