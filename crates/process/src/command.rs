//! Starting programs: std's builder with limits and a deadline, and nothing inherited by accident.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use event_loop::pipe::{Reader, Writer};
use rustix::process::Signal;
use sys::descriptors::close_all_on_exec;
use sys::program::before_exec;
use sys::signals::default_action;

use crate::child::Child;
use crate::children::{self, Recipient};
use crate::limits::Limits;
use crate::memory_limit::Lifted;
use crate::parent::signal_at_end;
use crate::reexec::Image;

/// A program to start: like std's builder, with the same names and defaults.
///
/// By default the child inherits the environment, the working directory and descriptors 0, 1 and 2. All other
/// descriptors are made close-on-exec in the child, even those opened by other libraries. The child starts with an
/// empty signal mask and, as after every exec, without our signal handlers. It is killed when this process exits for
/// whatever reason; its own children are not.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    leads_group: bool,
    deadline: Option<Duration>,
    image: Option<Image>,
}

impl Command {
    /// Creates a builder for a program, by its path or by its name in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut inner = std::process::Command::new(program);
        inherit_nothing(&mut inner);
        Command { inner, leads_group: false, deadline: None, image: None }
    }

    /// Creates a builder that starts this image, whatever else is said of arguments and environment. A file that the kernel
    /// cannot execute is an error; std passes it to `/bin/sh`.
    pub fn of(image: Image) -> Self {
        Command { image: Some(image), ..Command::new("/") }
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

    /// Removes a variable from the child's environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(name);
        self
    }

    /// Clears the child's environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// Sets the child's working directory.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(directory);
        self
    }

    /// Sets the child's standard input: `Stdio::piped()` sets [`Child::stdin`].
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.inner.stdin(stdin);
        self
    }

    /// Sets the child's standard output: `Stdio::piped()` sets [`Child::stdout`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.inner.stdout(stdout);
        self
    }

    /// Sets the child's standard error: `Stdio::piped()` sets [`Child::stderr`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.inner.stderr(stderr);
        self
    }

    /// Limits the child's processor time, address space and file sizes, and sets the wall time as
    /// [`deadline`](Self::deadline). Called again, the lower value of each applies, except for the deadline.
    ///
    /// A child that exceeds a limit is killed by a signal: [`Failure::of`](crate::Failure::of) returns which limit it
    /// was. Memory is different: the allocation fails, and the program decides what to do.
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        before_exec(&mut self.inner, move || limits.impose(0));
        self.deadline(limits.wall)
    }

    /// Kills the child and its group after this long (implies [`lead_group`](Self::lead_group)); then
    /// [`Child::timed_out`] returns true.
    pub fn deadline(&mut self, deadline: Duration) -> &mut Self {
        self.deadline = Some(deadline);
        self.lead_group()
    }

    /// Makes the child the leader of a new process group. Signals, [`Child::kill`] and the kill on drop then go to
    /// the whole group, including what a shell script has started. When the child has exited, the rest of its group
    /// is killed.
    pub fn lead_group(&mut self) -> &mut Self {
        self.inner.process_group(0);
        self.leads_group = true;
        self
    }

    /// Runs `action` in the child right before the program, after everything else: for limits of the caller's own. It must be
    /// async-signal-safe. If it fails, so does the start.
    pub fn before_exec(
        &mut self,
        action: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) -> &mut Self {
        before_exec(&mut self.inner, action);
        self
    }

    /// Starts the program. Returns once the child has executed it, or failed to.
    ///
    /// # Errors
    ///
    /// * If no loop runs on this thread.
    /// * Any from std: `NotFound`, `PermissionDenied`, …; `WouldBlock` (EAGAIN, "Resource temporarily unavailable")
    ///   if the account has too many processes: try again later.
    pub fn spawn(&mut self) -> io::Result<Child> {
        children::watch()?;
        if let Some(image) = self.image.take() {
            // Last, after all that is done in the child before: it does not return.
            before_exec(&mut self.inner, move || Err(image.exec_plainly()));
        }
        let lifted = Lifted::begin();
        let started = self.inner.spawn();
        drop(lifted);
        let mut started = started?;
        let pipes = (started.stdin.take(), started.stdout.take(), started.stderr.take());
        // std neither kills nor reaps a child whose handle is dropped.
        let pid = started.id();
        let recipient =
            if self.leads_group { Recipient::Group(pid) } else { Recipient::Process(pid) };
        // From here on, an error drops the handle, which kills the child and gets it reaped.
        let mut child = Child::register(pid, recipient)?;
        if let Some(deadline) = self.deadline {
            child.expire_after(deadline);
        }
        child.stdin = pipes.0.map(|pipe| Writer::from_fd(OwnedFd::from(pipe))).transpose()?;
        child.stdout = pipes.1.map(|pipe| Reader::from_fd(OwnedFd::from(pipe))).transpose()?;
        child.stderr = pipes.2.map(|pipe| Reader::from_fd(OwnedFd::from(pipe))).transpose()?;
        Ok(child)
    }

    /// Runs the program and waits until it has exited.
    ///
    /// # Errors
    ///
    /// Same as [`spawn`](Self::spawn) and [`Child::wait`].
    pub async fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait().await
    }

    /// Runs the program, waits until it has exited and collects its output: at most `limit` bytes each of standard
    /// output and standard error. Standard input is inherited unless it was set.
    ///
    /// # Errors
    ///
    /// Same as [`spawn`](Self::spawn) and [`Child::wait_with_output`].
    pub async fn output(&mut self, limit: usize) -> io::Result<Output> {
        self.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn()?.wait_with_output(limit).await
    }
}

/// Makes the program inherit only descriptors 0, 1 and 2, and be killed when the thread that starts it exits.
fn inherit_nothing(command: &mut std::process::Command) {
    let own = std::process::id();
    before_exec(command, move || {
        signal_at_end(own, Signal::KILL)?;
        default_action(Signal::XFSZ.as_raw())?;
        close_all_on_exec()
    });
}
