//! The program as it is installed on a host: a site's folder with its launcher, and how the web server starts it there.

use std::cell::Cell;
use std::fmt;
use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::SystemTime;

use http::Request;
use process::{Child, Command, Stdio};
use tempfile::TempDir;

use crate::limits::ProcessLimits;

/// CGI variables: names and values.
pub type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// Returns how the host's web server describes a request to a site at the root of its host.
pub type Describe = Box<dyn Fn(&Request<()>) -> Variables>;

/// The program to start as a host would.
pub struct Emulated {
    /// Its name, after which its launcher looks for it.
    pub name: String,
    /// Its file.
    pub program: PathBuf,
    /// The text of its launcher.
    pub launcher: String,
    /// The log that its processes write, to be shown at the terminal.
    pub log: Option<PathBuf>,
    /// The variables of a request.
    pub variables: Describe,
}

impl fmt::Debug for Emulated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Emulated").field("program", &self.program).finish_non_exhaustive()
    }
}

/// The environment of everything that the web server starts: mod_fcgid and suexec pass on nothing of their own.
const PATH: (&str, &str) = ("PATH", "/usr/local/bin:/usr/bin:/bin");

/// What is on disk for as long as the host is emulated.
pub(crate) struct Installation {
    folder: TempDir,
    launcher: PathBuf,
    sockets: Cell<u64>,
    limits: Option<ProcessLimits>,
}

impl Installation {
    /// Installs the program: the launcher finds it in the folder next to the site's.
    pub(crate) fn new(emulated: &Emulated, limits: Option<ProcessLimits>) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("{}-", emulated.name)).tempdir()?;
        let home = folder.path().join(format!("{}-home", emulated.name));
        let site = folder.path().join("site");
        for folder in [&home, &site, &folder.path().join("sockets")] {
            fs::create_dir(folder)?;
        }
        // A link: the program's settings, data and log are those beside its own file.
        symlink(&emulated.program, home.join(&emulated.name))?;
        let launcher = site.join("dispatch.fcgi");
        let mut file = File::options().write(true).create_new(true).mode(0o755).open(&launcher)?;
        file.write_all(emulated.launcher.as_bytes())?;
        Ok(Installation { folder, launcher, sockets: Cell::new(0), limits })
    }

    /// The document root.
    pub(crate) fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    /// Touches the launcher, by which processes reload.
    pub(crate) fn touch(&self) -> io::Result<()> {
        let now = FileTimes::new().set_modified(SystemTime::now());
        File::options().append(true).open(&self.launcher)?.set_times(now)
    }

    /// Starts a FastCGI process: with a socket of its own at descriptor 0. Returns it with the socket's path.
    pub(crate) fn start_process(&self) -> io::Result<(Child, PathBuf)> {
        let number = self.sockets.get() + 1;
        self.sockets.set(number);
        // As mod_fcgid names it, by which a process knows that nobody else listens there.
        let name = format!("{}.{number}", std::process::id());
        let socket = self.folder.path().join("sockets").join(name);
        let listener = UnixListener::bind(&socket)?;
        let mut command = self.command()?;
        command.stdin(OwnedFd::from(listener)).stdout(terminal()?);
        Ok((command.spawn()?, socket))
    }

    /// Returns what starts the launcher with only `PATH` in its environment, in a process group of its own: Ctrl-C at the
    /// terminal is not for it. What it prints comes to the terminal; on a host, to a log that the account cannot read.
    pub(crate) fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(&self.launcher);
        command.env_clear().env(PATH.0, PATH.1).current_dir(self.site());
        command.stderr(terminal()?).lead_group();
        if let Some(limits) = &self.limits {
            limits.impose(&mut command);
        }
        Ok(command)
    }
}

fn terminal() -> io::Result<Stdio> {
    Ok(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?))
}
