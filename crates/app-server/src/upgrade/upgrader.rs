//! When the running program gives way to a newer one: what is watched, what has to be checked, and the
//! verdicts on it. How it gives way is `lifecycle.rs`' affair.
//!
//! * The launcher is looked at before each accept; the program, what arrives beside it and the other files
//!   once a second while there are requests, and every ten seconds while there are none.
//! * Nothing is run in our place that has not passed a check: a child process of the new version, with a
//!   deadline. What has passed (or not) is noted in a file, named by inode, size and times of all that was
//!   checked, so that of many processes one checks. What is the same as what already runs needs no check.
//! * A version that failed is not tried again before something changes; touching the launcher is a change.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::future::Future;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use atomic_file::Durability;
use event_loop::descriptors;
use event_loop::exec::Image;
use event_loop::fork::{self, Beginning};
use event_loop::time::{self, Sleep};

use crate::server::connections::Connections;

/// What is watched, how a new version is checked, and what is run in the place of this one.
///
/// Made before anything that it names is read: what changes after that is a change.
#[derive(Clone, Debug)]
pub struct Renewal {
    paths: Paths,
    check_arguments: Vec<OsString>,
    marker: String,
    deadline: Duration,
    verdicts: Option<PathBuf>,
    /// All of it when this was made.
    at_start: Snapshot,
    /// The program is not what runs: another was started instead, for it had not passed its check.
    program_is_not_this: bool,
    checks_what_runs: bool,
    variables: Vec<(OsString, OsString)>,
    at_each_look: fn(),
}

#[derive(Clone, Debug)]
struct Paths {
    launcher: Option<PathBuf>,
    program: PathBuf,
    others: Vec<PathBuf>,
}

impl Renewal {
    /// Renews this process by `program`, whenever that file changes.
    ///
    /// A new version is run as `program ARGUMENTS…` to check it: it has passed when it ends with exit code
    /// 0 and one line of its output is `marker`, which no other program prints by chance.
    ///
    /// A version that arrives as the program's path with `.new` behind it is checked, then takes its place
    /// by rename; the one before is kept as `.previous`.
    pub fn new<A: Into<OsString>>(
        program: PathBuf,
        arguments: impl IntoIterator<Item = A>,
        marker: &str,
    ) -> Renewal {
        let paths = Paths { launcher: None, program, others: Vec::new() };
        Renewal {
            at_start: Snapshot::take(&paths),
            paths,
            check_arguments: arguments.into_iter().map(Into::into).collect(),
            marker: marker.to_owned(),
            deadline: Duration::from_secs(10),
            verdicts: None,
            program_is_not_this: false,
            checks_what_runs: false,
            variables: Vec::new(),
            at_each_look: || {},
        }
    }

    /// Gives the versions that follow this variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Watches the launcher, too: the file whose touch renews the process whatever else is the same.
    #[must_use]
    pub fn launcher(mut self, launcher: Option<PathBuf>) -> Self {
        self.paths.launcher = launcher;
        self.look_anew()
    }

    /// Watches another file, the configuration say; it may be missing.
    #[must_use]
    pub fn file(mut self, file: PathBuf) -> Self {
        self.paths.others.push(file);
        self.look_anew()
    }

    /// Keeps verdicts in this folder, which is made when it is missing. Without one each process checks by
    /// itself.
    #[must_use]
    pub fn verdicts(mut self, folder: PathBuf) -> Self {
        self.verdicts = Some(folder);
        self
    }

    /// How long a check may take. Default 10 s, since shared machines can be slow; a good one takes some
    /// ten milliseconds.
    #[must_use]
    pub fn check_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Whether what runs shall be checked, too, if nobody has: a launcher starts the last version that has
    /// passed, and a check leaves a copy of it for that.
    #[must_use]
    pub fn check_what_runs(mut self, checks: bool) -> Self {
        self.checks_what_runs = checks;
        self
    }

    /// The program is not what runs: the launcher has started the last good version in its place. It is
    /// checked at once.
    #[must_use]
    pub fn instead_of_the_program(mut self, is_instead: bool) -> Self {
        self.program_is_not_this = is_instead;
        self
    }

    /// Calls this at each check of the files, for others that need one (a growing log): once a second while
    /// there are requests, less often while there are none. It must not block.
    #[must_use]
    pub fn at_each_look(mut self, action: fn()) -> Self {
        self.at_each_look = action;
        self
    }

    fn look_anew(mut self) -> Self {
        self.at_start = self.look();
        self
    }

    fn look(&self) -> Snapshot {
        Snapshot::take(&self.paths)
    }

    /// Checks what lies at `arriving` beside the program, and lets it take the program's place: for a
    /// command that installs.
    ///
    /// # Errors
    /// Why it was refused, in a sentence.
    pub async fn install(&self) -> Result<(), String> {
        let snapshot = self.look();
        let Some(key) = snapshot.key(What::Arriving) else {
            return Err(format!("{} is not there", arriving(&self.paths.program).display()));
        };
        match self.judge(What::Arriving, key, true).await {
            Verdict::Passed => Ok(()),
            Verdict::Failed(why) => Err(why),
            Verdict::Unknown(why) => Err(why),
        }
    }
}

/// The path at which a new version arrives.
pub(crate) fn arriving(program: &Path) -> PathBuf {
    with_suffix(program, ".new")
}

fn previous(program: &Path) -> PathBuf {
    with_suffix(program, ".previous")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// What tells a file from what it was.
#[derive(Clone, Copy, Debug)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    changed: (i64, i64),
    modified: (i64, i64),
}

/// A second name that the file is given, or loses, is no change of it, though it counts as one (ctime).
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.device, it.inode, it.size, it.mode, it.modified);
        of(self) == of(other)
    }
}

impl Eq for Identity {}

impl Identity {
    fn of(path: &Path) -> Option<Identity> {
        fs::metadata(path).ok().map(|metadata| Identity::from(&metadata))
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// All that is watched, at one moment; `None` for what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Snapshot {
    launcher: Option<Identity>,
    program: Option<Identity>,
    arriving: Option<Identity>,
    others: Vec<Option<Identity>>,
}

impl Snapshot {
    fn take(paths: &Paths) -> Snapshot {
        Snapshot {
            launcher: paths.launcher.as_deref().and_then(Identity::of),
            program: Identity::of(&paths.program),
            arriving: Identity::of(&arriving(&paths.program)),
            others: paths.others.iter().map(|path| Identity::of(path)).collect(),
        }
    }

    /// The name of the verdict on a version with the other files as they are.
    fn key(&self, what: What) -> Option<String> {
        let program = match what {
            What::Program => self.program,
            What::Arriving => self.arriving,
        };
        let mut key = String::new();
        program?;
        for part in [program].iter().chain(&self.others) {
            match part {
                Some(it) => {
                    let _ = write!(
                        key,
                        "{:x}-{:x}-{:x}.{:x}-{:x}.{:x}_",
                        it.inode, it.size, it.modified.0, it.modified.1, it.changed.0, it.changed.1
                    );
                }
                None => key.push_str("none_"),
            }
        }
        key.pop();
        Some(key)
    }
}

/// Which version is to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// The one at the program's path.
    Program,
    /// The one that has arrived beside it.
    Arriving,
}

/// What a check has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// Why, as the end of a sentence.
    Failed(String),
    /// It could not be checked just now: why.
    Unknown(String),
}

/// How many verdicts are kept.
const VERDICTS: usize = 16;

/// How often a process looks whether another one has come to its verdict.
const LOOK_FOR_VERDICT: Duration = Duration::from_millis(20);

/// Why there is no verdict on a file that somebody has open for writing: the system refuses to run it.
const BEING_WRITTEN: &str = "it is still being written";

/// How long a file that is being written is waited for before a check gives up for now.
const BUSY: Duration = Duration::from_secs(10);

impl Renewal {
    fn path_of(&self, what: What) -> PathBuf {
        match what {
            What::Program => self.paths.program.clone(),
            What::Arriving => arriving(&self.paths.program),
        }
    }

    /// Comes to a verdict: the one that is noted, or by a check. What has arrived and passed has taken the
    /// program's place when this returns.
    async fn judge(&self, what: What, key: String, anew: bool) -> Verdict {
        let _lock = match self.noted_or_lock(&key, anew).await {
            Noted::Verdict(verdict) if what == What::Program => return verdict,
            Noted::Verdict(Verdict::Failed(why)) => return Verdict::Failed(why),
            Noted::Verdict(_) => None,
            Noted::Nothing(lock) => lock,
        };
        let verdict = self.check(&self.path_of(what)).await;
        // What was checked has to be what is there now.
        let snapshot = self.look();
        if snapshot.key(what).as_ref() != Some(&key) {
            return Verdict::Unknown("it changed while it was checked".to_owned());
        }
        let name = self.path_of(what);
        match &verdict {
            Verdict::Passed => tracing::info!("{} has passed its check.", name.display()),
            Verdict::Failed(why) => tracing::error!(
                "{} was not taken, and the version before goes on: {why}.",
                name.display()
            ),
            Verdict::Unknown(why) => {
                tracing::warn!("{} could not be checked: {why}.", name.display());
            }
        }
        self.note(&key, &verdict);
        if what == What::Arriving && verdict == Verdict::Passed {
            if let Err(error) = self.let_in() {
                return Verdict::Unknown(format!("it could not take the program's place: {error}"));
            }
            // Renaming changes a file's time.
            if let Some(key) = self.look().key(What::Program) {
                self.note(&key, &verdict);
            }
        }
        verdict
    }

    /// Lets what has arrived take the program's place; at no moment there is none.
    fn let_in(&self) -> io::Result<()> {
        let program = &self.paths.program;
        let previous = previous(program);
        let _ = fs::remove_file(&previous);
        let copy = || {
            let mut from = File::open(program)?;
            let mode = from.metadata()?.mode() & 0o7777;
            atomic_file::replace(&previous, mode, Durability::Cached, |file| {
                io::copy(&mut from, file).map(drop)
            })
        };
        // A second name for the same file; where that is not allowed, a copy.
        if fs::hard_link(program, &previous).is_err()
            && let Err(error) = copy()
        {
            tracing::info!("The version before was not kept: {error}.");
        }
        fs::rename(arriving(program), program)
    }

    /// Runs the check.
    async fn check(&self, program: &Path) -> Verdict {
        let deadline = time::now() + BUSY;
        loop {
            match self.run_check(program).await {
                // Somebody is writing to it.
                Verdict::Unknown(why) if why == BEING_WRITTEN && time::now() < deadline => {
                    time::sleep(LOOK_FOR_VERDICT * 5).await;
                }
                verdict => return verdict,
            }
        }
    }

    async fn run_check(&self, program: &Path) -> Verdict {
        let arguments = [program.as_os_str()].into_iter();
        let arguments = arguments.chain(self.check_arguments.iter().map(OsString::as_os_str));
        // It is started by a program, not by a web server for a request.
        let variables = std::env::vars_os().filter(|(name, _)| name != "GATEWAY_INTERFACE");
        let image = match Image::prepare(program, arguments, variables) {
            Ok(image) => image,
            Err(error) => return Verdict::Failed(format!("it cannot be started: {error}")),
        };
        let beginning = Beginning { prints_to_us: true, ..Beginning::default() };
        let child = fork::fresh(beginning, move || {
            let error = image.exec_plainly();
            let code = error.raw_os_error().unwrap_or_default();
            // If nobody reads it, the exit code still says that something was wrong.
            let _ = writeln!(io::stdout(), "{NOT_STARTED}{code}");
            1
        });
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                return Verdict::Unknown(format!("no process could be made for it: {error}"));
            }
        };
        let said = event_loop::spawn(read_some(child.stderr.take()));
        let ending = time::timeout(self.deadline, child.wait()).await;
        // Whatever it has left behind goes with it.
        drop(child);
        let Ok(ending) = ending else {
            let seconds = self.deadline.as_secs_f64();
            return Verdict::Failed(format!("its check was not over after {seconds} s"));
        };
        let status = match ending {
            Ok(status) => status,
            Err(error) => return Verdict::Unknown(error.to_string()),
        };
        let said = said.await;
        let said = String::from_utf8_lossy(&said);
        if let Some(code) = said.lines().find_map(|line| line.strip_prefix(NOT_STARTED)) {
            return not_started(&io::Error::from_raw_os_error(code.parse().unwrap_or_default()));
        }
        if status.success() {
            return match said.lines().any(|line| line == self.marker) {
                true => Verdict::Passed,
                false => {
                    Verdict::Failed("it is another program: its check says nothing".to_owned())
                }
            };
        }
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("its check was ended by signal {signal}"),
            (None, code) => format!("its check ended with exit code {}", code.unwrap_or(-1)),
        };
        let lines: Vec<&str> =
            said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let said: String = lines.join(" ").chars().take(400).collect();
        Verdict::Failed(match said.trim_end_matches('.') {
            "" => how,
            said => format!("{how} and said: {said}"),
        })
    }

    /// Looks for a verdict; where there is none, gets the lock (if the folder has any) to come to one.
    async fn noted_or_lock(&self, key: &str, anew: bool) -> Noted {
        let Some(folder) = &self.verdicts else { return Noted::Nothing(None) };
        if let Err(error) = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder) {
            tracing::debug!("Verdicts cannot be kept: {error}.");
            return Noted::Nothing(None);
        }
        let begun = SystemTime::now();
        let lock = File::options().create(true).append(true).open(folder.join("lock"));
        let until = time::now() + self.deadline + BUSY;
        loop {
            // Of those that failed, only what was found out after the launcher's last touch counts.
            let since = match anew {
                true => Some(begun),
                false => self
                    .paths
                    .launcher
                    .as_ref()
                    .and_then(|it| fs::metadata(it).ok()?.modified().ok()),
            };
            if let Some(verdict) = self.read_note(key, since) {
                return Noted::Verdict(verdict);
            }
            let Ok(lock) = &lock else { return Noted::Nothing(None) };
            match descriptors::try_lock(lock.as_fd()) {
                Ok(()) => {
                    // Whoever had it may have come to a verdict since.
                    if let Some(verdict) = self.read_note(key, since) {
                        return Noted::Verdict(verdict);
                    }
                    return Noted::Nothing(lock.try_clone().ok());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && time::now() < until => {
                    time::sleep(LOOK_FOR_VERDICT).await;
                }
                // No locks on this file system, or somebody holds it too long: it goes without.
                Err(_) => return Noted::Nothing(None),
            }
        }
    }

    fn read_note(&self, key: &str, failures_since: Option<SystemTime>) -> Option<Verdict> {
        let path = self.verdicts.as_ref()?.join(key);
        let text = fs::read_to_string(&path).ok()?;
        match text.split_once('\n')? {
            ("passed", _) => Some(Verdict::Passed),
            ("failed", why) => {
                let noted = fs::metadata(&path).ok()?.modified().ok()?;
                let counts = failures_since.is_none_or(|since| noted >= since);
                counts.then(|| Verdict::Failed(why.trim_end().to_owned()))
            }
            _ => None,
        }
    }

    /// Notes a verdict: a file of its own, there as a whole or not at all.
    fn note(&self, key: &str, verdict: &Verdict) {
        let Some(folder) = &self.verdicts else { return };
        let text = match verdict {
            Verdict::Passed => "passed\n".to_owned(),
            Verdict::Failed(why) => format!("failed\n{why}\n"),
            Verdict::Unknown(_) => return,
        };
        let written = || -> io::Result<()> {
            // One that is lost in a power cut is determined again.
            atomic_file::replace(&folder.join(key), 0o600, Durability::Cached, |file| {
                file.write_all(text.as_bytes())
            })?;
            forget_the_oldest(folder)
        };
        if let Err(error) = written() {
            tracing::debug!("A verdict could not be kept: {error}.");
        }
    }
}

enum Noted {
    Verdict(Verdict),
    /// There is none; the lock, as long as it is kept, if there are locks.
    Nothing(Option<File>),
}

/// What the child prints when the version could not even be started, before the number of the error.
const NOT_STARTED: &str = "app-server: execve failed: ";

/// Why a version could not even be started.
fn not_started(error: &io::Error) -> Verdict {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::ExecutableFileBusy, _) => Verdict::Unknown(BEING_WRITTEN.to_owned()),
        (io::ErrorKind::PermissionDenied, _) => Verdict::Failed(
            "it may not be run by this account; allow it with: chmod 755".to_owned(),
        ),
        (_, Some(libc::ENOEXEC)) => Verdict::Failed(
            "it is no program for this machine: it is damaged, or was built for another kind"
                .to_owned(),
        ),
        (io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock, _) => {
            Verdict::Unknown(format!("it cannot be started now: {error}"))
        }
        _ => Verdict::Failed(format!("it cannot be started: {error}")),
    }
}

/// Keeps the newest verdicts.
fn forget_the_oldest(folder: &Path) -> io::Result<()> {
    let mut verdicts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains('_') || entry.file_name().len() > 40 {
            verdicts.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    verdicts.sort();
    let too_many = verdicts.len().saturating_sub(VERDICTS);
    for (_, path) in verdicts.into_iter().take(too_many) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Reads what a check says, to its end, and keeps the first part.
async fn read_some(reader: Option<event_loop::pipe::Reader>) -> Vec<u8> {
    const KEPT: usize = 8 * 1024;
    let Some(mut reader) = reader else { return Vec::new() };
    let mut kept = Vec::new();
    let mut buffer = bytes::BytesMut::new();
    loop {
        buffer.clear();
        buffer.reserve(KEPT);
        match std::future::poll_fn(|context| reader.poll_read_into(context, &mut buffer)).await {
            Ok(0) | Err(_) => return kept,
            Ok(_) => {
                let room = KEPT.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..buffer.len().min(room)]);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------

/// How often files are looked at while there are requests.
const LOOK: Duration = Duration::from_secs(1);

/// How often while there are none.
const SLOW_LOOK: Duration = Duration::from_secs(10);

/// How often while there are none, behind a web server that identifies processes by their launcher's file: a
/// replaced process has to make room soon.
const SLOW_LOOK_AT_LAUNCHER: Duration = Duration::from_secs(2);

/// How long another file must lie in the launcher's place before this process concludes that it will get no
/// more requests.
const REPLACED: Duration = Duration::from_secs(1);

/// How long accepting waits for a verdict after a touch: what comes meanwhile is answered by the new
/// version.
const HOLD: Duration = Duration::from_secs(1);

/// How long what has arrived has to stay as it is before it is checked without being asked for: uploads
/// come in pieces.
const SETTLED: Duration = Duration::from_secs(2);

/// A process that its web server will not ask any more ends after this time without requests.
const UNREACHABLE: Duration = Duration::from_secs(60);

/// When it is tried again to give way, while that is not possible: at once when nothing is in progress,
/// else after these times.
const AGAIN: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How often it is looked whether nothing is in progress.
const LOOK_FOR_QUIET: Duration = Duration::from_millis(50);

/// What the server has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Give way to the new program.
    Renew,
    /// Exit: there have been no requests for a long time, or there never will be any.
    End,
}

/// Watches over one process.
pub(crate) struct Renewer {
    settings: Renewal,
    pub(crate) image: Image,
    /// What was there when it was looked at last.
    seen: Snapshot,
    /// What this process was started from, or has been found as good as: needs no check.
    running: Option<String>,
    stage: Stage,
    look: Sleep,
    looked: Instant,
    is_quiet: bool,
    /// What has arrived, and since when it is as it is.
    arrived: Option<(Identity, Instant)>,
    /// What has arrived and was judged already.
    judged: Option<Identity>,
    /// When a request was in progress last.
    last_active: Instant,
    /// End after so long without requests; `None`: never.
    idle_exit: Option<Duration>,
    /// The launcher's file when the web server started this process.
    pub(crate) origin: Option<String>,
    /// The web server identifies this process by that file and sends it no more requests once another lies
    /// there (mod_fcgid), but still counts it, and may be unable to start one that it would use.
    asked_by_origin: bool,
    /// Since when another file has been there.
    replaced: Option<Instant>,
    /// Nobody has looked at the program yet, for another was started in its place.
    unseen_program: bool,
    /// What runs has not been looked for among the verdicts yet.
    unchecked: bool,
    /// The program was missing when it was looked for last: that is said once.
    said_missing: bool,
}

enum Stage {
    Watching,
    /// A verdict is awaited.
    Judging {
        judging: Pin<Box<dyn Future<Output = Verdict>>>,
        what: What,
        key: String,
        purpose: Purpose,
        /// Accepting waits meanwhile, until this is over.
        hold: Option<Sleep>,
    },
    /// It has passed.
    Ready {
        key: Option<String>,
        /// How often it was tried to give way.
        tries: usize,
        since: Instant,
        next_try: Instant,
        wait: Option<Sleep>,
    },
}

/// What a verdict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To give way to what has passed.
    Renew,
    /// The same; and when it has not passed, to consider the program, for that has changed, too.
    RenewByEither,
    /// To be noted: whoever starts the program next wants to know.
    Note,
}

impl Renewer {
    /// Begins watching. `idle_exit`: see the settings. `origin`: from the program before this one.
    /// `asked_by_origin`: the web server is mod_fcgid, which knows processes by their launcher's file.
    pub(crate) fn new(
        settings: Renewal,
        idle_exit: Option<Duration>,
        origin: Option<String>,
        asked_by_origin: bool,
    ) -> io::Result<Renewer> {
        let mut arguments: Vec<OsString> = std::env::args_os().collect();
        if let Some(name) = arguments.first_mut() {
            *name = settings.paths.program.clone().into();
        }
        let set = |name: &OsString| settings.variables.iter().any(|(known, _)| known == name);
        let inherited = std::env::vars_os().filter(|(name, _)| !set(name));
        let environment = inherited.chain(settings.variables.iter().cloned());
        let image = Image::prepare(&settings.paths.program, arguments, environment)?;
        let seen = settings.at_start.clone();
        let origin = origin.or_else(|| seen.launcher.map(|it| name_of(&it)));
        let unseen_program = settings.program_is_not_this;
        let settings_check = settings.checks_what_runs && !unseen_program;
        let now = time::now();
        Ok(Renewer {
            image,
            running: if unseen_program { None } else { seen.key(What::Program) },
            seen,
            settings,
            stage: Stage::Watching,
            look: time::sleep(if unseen_program { Duration::ZERO } else { LOOK }),
            looked: now,
            is_quiet: false,
            arrived: None,
            judged: None,
            last_active: now,
            idle_exit,
            origin,
            asked_by_origin,
            replaced: None,
            unseen_program,
            unchecked: settings_check,
            said_missing: false,
        })
    }

    /// To be asked before each accept: whether the launcher was touched. One `stat(2)`; after a quiet time
    /// it is looked whether anything else has changed, too.
    pub(crate) fn was_touched(&mut self) -> bool {
        if self.is_quiet && time::now().saturating_duration_since(self.looked) >= LOOK {
            self.looked = time::now();
            self.look_at_all(false);
            return !matches!(self.stage, Stage::Watching);
        }
        let Some(launcher) = &self.settings.paths.launcher else { return false };
        if Identity::of(launcher) == self.seen.launcher {
            return false;
        }
        self.look_at_all(false);
        !matches!(self.stage, Stage::Watching)
    }

    /// Whether accepting has to wait.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.stage, Stage::Judging { hold: Some(_), .. })
    }

    /// Renews whatever has changed: somebody asks for it by a signal.
    pub(crate) fn ask(&mut self) {
        self.look_at_all(true);
    }

    /// Drives watching and checking; ready when the server has something to do.
    pub(crate) fn poll(
        &mut self,
        connections: &Connections,
        context: &mut Context<'_>,
    ) -> Poll<Act> {
        loop {
            match &mut self.stage {
                Stage::Watching => {
                    if let Some(act) = self.poll_look(connections, context) {
                        return Poll::Ready(act);
                    }
                    if matches!(self.stage, Stage::Watching) {
                        return Poll::Pending;
                    }
                }
                Stage::Judging { judging, what, key, purpose, hold } => {
                    let Poll::Ready(verdict) = judging.as_mut().poll(context) else {
                        if hold.as_mut().is_some_and(|hold| Pin::new(hold).poll(context).is_ready())
                        {
                            *hold = None;
                        }
                        return Poll::Pending;
                    };
                    let (what, key, purpose) = (*what, key.clone(), *purpose);
                    self.judged(verdict, what, &key, purpose);
                }
                Stage::Ready { tries: 0, .. } => return Poll::Ready(Act::Renew),
                Stage::Ready { wait, next_try, .. } => {
                    if connections.busy() == 0 || time::now() >= *next_try {
                        return Poll::Ready(Act::Renew);
                    }
                    let alarm = wait.get_or_insert_with(|| time::sleep(LOOK_FOR_QUIET));
                    if Pin::new(alarm).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    *wait = None;
                }
            }
        }
    }

    fn judged(&mut self, verdict: Verdict, what: What, key: &str, purpose: Purpose) {
        self.stage = Stage::Watching;
        match verdict {
            _ if purpose == Purpose::Note => {}
            Verdict::Passed => {
                if what == What::Arriving {
                    // It is the program now.
                    let before = std::mem::replace(&mut self.seen, self.settings.look());
                    if before.others != self.seen.others {
                        return self.consider_program();
                    }
                }
                self.running = self.seen.key(What::Program);
                self.make_ready(self.running.clone());
            }
            Verdict::Failed(why) => {
                tracing::debug!("The version before goes on: {why}.");
                if purpose == Purpose::RenewByEither {
                    self.consider_program();
                }
            }
            Verdict::Unknown(why) => {
                tracing::debug!("There is no verdict on {key}: {why}.");
                // The next look finds it changed again.
                match what {
                    What::Program => self.seen.program = None,
                    What::Arriving => self.judged = None,
                }
                if purpose == Purpose::RenewByEither {
                    self.consider_program();
                }
            }
        }
    }

    fn make_ready(&mut self, key: Option<String>) {
        let now = time::now();
        self.stage = Stage::Ready { key, tries: 0, since: now, wait: None, next_try: now };
    }

    /// Looks at the files when it is time.
    fn poll_look(&mut self, connections: &Connections, context: &mut Context<'_>) -> Option<Act> {
        let now = time::now();
        if self.is_quiet && connections.was_active(context) {
            self.is_quiet = false;
            self.last_active = now;
            let next = self.looked + LOOK;
            self.look.reset(next.max(now));
        }
        while Pin::new(&mut self.look).poll(context).is_ready() {
            let now = time::now();
            self.looked = now;
            (self.settings.at_each_look)();
            if connections.was_active(context) || connections.busy() > 0 {
                self.last_active = now;
                self.is_quiet = false;
            } else {
                self.is_quiet = true;
            }
            self.look_at_all(false);
            if !matches!(self.stage, Stage::Watching) {
                self.look.reset(now + LOOK);
                return None;
            }
            if let Some(since) = self.replaced
                && now.saturating_duration_since(since) >= REPLACED
            {
                tracing::info!(
                    "Launcher replaced by another file; the web server will not send this process \
                     any more requests. Exiting."
                );
                return Some(Act::End);
            }
            if let Some(patience) = self.patience()
                && now.saturating_duration_since(self.last_active) >= patience
            {
                tracing::info!(
                    "Nobody has asked for anything for {} s: ending (idle_exit).",
                    patience.as_secs()
                );
                return Some(Act::End);
            }
            let settling = self.arrived.is_some() || self.replaced.is_some();
            let mut next = match self.is_quiet && !settling {
                true if self.asked_by_origin => SLOW_LOOK_AT_LAUNCHER,
                true => SLOW_LOOK,
                false => LOOK,
            };
            if let Some(patience) = self.patience() {
                next = next.min(patience);
            }
            self.look.reset(now + next);
        }
        None
    }

    /// How long this process may be idle.
    fn patience(&self) -> Option<Duration> {
        let patience = self.idle_exit?;
        let launcher = self.seen.launcher.map(|it| name_of(&it));
        match &self.origin {
            Some(origin) if launcher.as_ref() != Some(origin) => Some(patience.min(UNREACHABLE)),
            _ => Some(patience),
        }
    }

    /// Records whether another file lies in the launcher's place. A missing one may come back.
    fn note_replacement(&mut self, now: &Snapshot) {
        let launcher = now.launcher.map(|it| name_of(&it));
        let is_replaced = self.asked_by_origin && launcher.is_some() && launcher != self.origin;
        self.replaced = is_replaced.then(|| self.replaced.unwrap_or_else(time::now));
    }

    /// Looks at everything and begins what follows from it.
    fn look_at_all(&mut self, asked: bool) {
        if !matches!(self.stage, Stage::Watching) {
            return;
        }
        let now = self.settings.look();
        self.note_replacement(&now);
        if self.replaced.is_some() && !asked {
            // A process that exits needs no newer version.
            self.seen = now;
            return;
        }
        let touched = asked || now.launcher.is_some() && now.launcher != self.seen.launcher;
        let program = std::mem::take(&mut self.unseen_program)
            || now.program.is_some() && now.program != self.seen.program;
        let others = now.others != self.seen.others;
        let is_missing = now.program.is_none();
        if is_missing && !self.said_missing {
            let program = self.settings.paths.program.display();
            tracing::warn!("{program} is missing; this process goes on.");
        }
        self.said_missing = is_missing;
        let changed = touched || program || others;
        let arrived = self.note_arrival(&now, touched);
        self.seen = now;
        if arrived && let Some(key) = self.seen.key(What::Arriving) {
            let purpose = if changed { Purpose::RenewByEither } else { Purpose::Renew };
            self.begin(What::Arriving, key, purpose);
        } else if changed {
            self.consider_program();
        } else if std::mem::take(&mut self.unchecked)
            && let Some(key) = self.running.clone()
            && self.settings.read_note(&key, None).is_none()
        {
            self.begin(What::Program, key, Purpose::Note);
        }
    }

    /// Notes what has arrived; whether it is to be checked: somebody has touched the launcher, or it has been
    /// the same for a while.
    fn note_arrival(&mut self, now: &Snapshot, touched: bool) -> bool {
        let Some(arriving) = now.arriving else {
            self.arrived = None;
            self.judged = None;
            return false;
        };
        let settled = match self.arrived {
            Some((known, since)) if known == arriving => {
                time::now().saturating_duration_since(since) >= SETTLED
            }
            _ if touched || self.judged == Some(arriving) => false,
            _ => {
                self.arrived = Some((arriving, time::now()));
                false
            }
        };
        let is_due = touched || settled;
        if is_due {
            self.arrived = None;
            self.judged = Some(arriving);
        }
        is_due
    }

    fn consider_program(&mut self) {
        let Some(key) = self.seen.key(What::Program) else { return };
        if self.running.as_ref() == Some(&key) {
            self.make_ready(Some(key));
        } else {
            self.begin(What::Program, key, Purpose::Renew);
        }
    }

    fn begin(&mut self, what: What, key: String, purpose: Purpose) {
        let (settings, judged) = (self.settings.clone(), key.clone());
        let judging = Box::pin(async move { settings.judge(what, judged, false).await });
        let hold = (purpose != Purpose::Note).then(|| time::sleep(HOLD));
        self.stage = Stage::Judging { judging, what, key, purpose, hold };
    }

    // Giving way.

    /// Whether the files are still those that passed: to be asked right before.
    pub(crate) fn is_still_good(&self) -> bool {
        let Stage::Ready { key, .. } = &self.stage else { return false };
        self.settings.look().key(What::Program) == *key
    }

    /// The files have changed since the verdict: looks again.
    pub(crate) fn reconsider(&mut self) {
        self.stage = Stage::Watching;
        self.seen.program = None;
        self.look.reset(time::now());
    }

    /// It was not possible to give way: tries again later.
    pub(crate) fn postpone(&mut self, soon: bool) {
        if let Stage::Ready { tries, next_try, wait, .. } = &mut self.stage {
            let pause = match soon {
                true => LOOK_FOR_QUIET,
                false => AGAIN[(*tries).min(AGAIN.len() - 1)],
            };
            *tries += 1;
            *next_try = time::now() + pause;
            *wait = None;
        }
    }

    /// Whether this was tried before, and for how long it has been wanted.
    pub(crate) fn wanted_for(&self) -> (usize, Duration) {
        match &self.stage {
            Stage::Ready { tries, since, .. } => {
                (*tries, time::now().saturating_duration_since(*since))
            }
            _ => (0, Duration::ZERO),
        }
    }

    /// The new program could not be executed at all: this one goes on.
    pub(crate) fn give_up(&mut self) {
        self.stage = Stage::Watching;
        self.running = None;
    }
}

fn name_of(launcher: &Identity) -> String {
    format!("{}-{}", launcher.device, launcher.inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewal(folder: &Path) -> Renewal {
        fs::write(folder.join("program"), "one").unwrap();
        Renewal::new(folder.join("program"), ["check"], "marker")
            .launcher(Some(folder.join("launcher")))
            .file(folder.join("configuration"))
            .verdicts(folder.join("verdicts"))
    }

    #[test]
    fn a_key_names_all_that_was_checked() {
        let folder = tempfile::tempdir().unwrap();
        let renewal = renewal(folder.path());
        let key = || renewal.look().key(What::Program).unwrap();
        let first = key();
        assert!(first.ends_with("_none"), "{first}");
        assert_eq!(key(), first);
        // The launcher is no part of a version.
        fs::write(folder.path().join("launcher"), "").unwrap();
        assert_eq!(key(), first);
        fs::write(folder.path().join("configuration"), "a = 1").unwrap();
        let second = key();
        assert_ne!(second, first);
        fs::write(folder.path().join("another"), "one").unwrap();
        fs::rename(folder.path().join("another"), folder.path().join("program")).unwrap();
        assert_ne!(key(), second, "of the same size");
        assert_eq!(renewal.look().key(What::Arriving), None);
        assert!(key().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)));
    }

    #[test]
    fn a_second_name_is_no_change_and_a_mode_is() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let renewal = renewal(folder.path());
        let before = renewal.look();
        fs::hard_link(folder.path().join("program"), folder.path().join("same")).unwrap();
        assert_eq!(renewal.look(), before);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path().join("program"), mode).unwrap();
        assert_ne!(renewal.look(), before);
    }

    #[test]
    fn who_is_never_asked_again_waits_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let renewal = renewal(folder.path());
        let launcher = folder.path().join("launcher");
        fs::write(&launcher, "").unwrap();
        event_loop::run(async {
            let quarter = Duration::from_secs(15 * 60);
            let renewal = renewal.launcher(Some(launcher.clone()));
            let mut renewer = Renewer::new(renewal.clone(), Some(quarter), None, false).unwrap();
            assert_eq!(renewer.patience(), Some(quarter));
            // A touch leaves it the same file; another file in its place does not.
            fs::write(&launcher, "touched").unwrap();
            renewer.seen = renewal.look();
            assert_eq!(renewer.patience(), Some(quarter));
            fs::write(folder.path().join("new"), "").unwrap();
            fs::rename(folder.path().join("new"), &launcher).unwrap();
            renewer.seen = renewal.look();
            assert_eq!(renewer.patience(), Some(UNREACHABLE));
            // The program after this one knows from which file the process came.
            let origin = renewer.origin.clone();
            let next = renewal.clone().launcher(Some(launcher.clone()));
            let next = Renewer::new(next, Some(quarter), origin, false).unwrap();
            assert_eq!(next.patience(), Some(UNREACHABLE));
            let other = Renewer::new(renewal, None, None, false).unwrap();
            assert_eq!(other.patience(), None);
        })
        .unwrap();
    }

    #[test]
    fn who_is_known_by_a_file_that_was_replaced_ends_soon() {
        let folder = tempfile::tempdir().unwrap();
        let renewal = renewal(folder.path());
        let launcher = folder.path().join("launcher");
        fs::write(&launcher, "").unwrap();
        let replace = || {
            fs::write(folder.path().join("new"), "").unwrap();
            fs::rename(folder.path().join("new"), &launcher).unwrap();
        };
        event_loop::run(async {
            let renewal = renewal.launcher(Some(launcher.clone()));
            let mut renewer = Renewer::new(renewal.clone(), None, None, true).unwrap();
            let origin = renewer.origin.clone();
            renewer.look_at_all(false);
            assert_eq!(renewer.replaced, None);
            replace();
            renewer.look_at_all(false);
            let since = renewer.replaced.expect("another file lies there");
            assert!(matches!(renewer.stage, Stage::Watching), "it takes no other version");
            renewer.look_at_all(false);
            assert_eq!(renewer.replaced, Some(since));
            // While it is missing, nobody knows what will follow.
            fs::remove_file(&launcher).unwrap();
            renewer.look_at_all(false);
            assert_eq!(renewer.replaced, None);
            fs::write(&launcher, "").unwrap();
            // The next program knows from which file the process was started.
            let next = Renewer::new(renewal.clone(), None, Some("1-1".to_owned()), true).unwrap();
            assert_ne!(next.origin, origin);
            // Other web servers keep sending requests.
            let mut other = Renewer::new(renewal, None, origin, false).unwrap();
            replace();
            other.look_at_all(false);
            assert_eq!(other.replaced, None);
        })
        .unwrap();
    }

    #[test]
    fn verdicts_are_read_as_they_were_noted() {
        let folder = tempfile::tempdir().unwrap();
        let renewal = renewal(folder.path());
        fs::create_dir(folder.path().join("verdicts")).unwrap();
        assert_eq!(renewal.read_note("a_1", None), None);
        for verdict in [Verdict::Passed, Verdict::Failed("it\nis broken".to_owned())] {
            renewal.note("a_1", &verdict);
            assert_eq!(renewal.read_note("a_1", None), Some(verdict));
        }
        // A failure from before the launcher was touched does not count; a pass always does.
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(renewal.read_note("a_1", Some(later)), None);
        renewal.note("a_1", &Verdict::Passed);
        assert_eq!(renewal.read_note("a_1", Some(later)), Some(Verdict::Passed));
        // Nothing is noted of what is not known, and what cannot be read is no verdict.
        renewal.note("b_1", &Verdict::Unknown("?".to_owned()));
        fs::write(folder.path().join("verdicts/c_1"), "pass").unwrap();
        assert_eq!((renewal.read_note("b_1", None), renewal.read_note("c_1", None)), (None, None));
    }

    #[test]
    fn a_verdict_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let renewal = renewal(folder.path());
        let (verdicts, victim) = (folder.path().join("verdicts"), folder.path().join("victim"));
        fs::create_dir(&verdicts).unwrap();
        fs::write(&victim, "precious").unwrap();
        for name in [format!(".{}", std::process::id()), "a_1".to_owned()] {
            std::os::unix::fs::symlink(&victim, verdicts.join(name)).unwrap();
        }
        renewal.note("a_1", &Verdict::Passed);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(renewal.read_note("a_1", None), Some(Verdict::Passed));
    }

    #[test]
    fn the_newest_verdicts_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let renewal = renewal(folder.path());
        fs::create_dir(folder.path().join("verdicts")).unwrap();
        fs::write(folder.path().join("verdicts/lock"), "").unwrap();
        for number in 0..VERDICTS + 10 {
            renewal.note(&format!("a_{number}"), &Verdict::Passed);
        }
        let kept = fs::read_dir(folder.path().join("verdicts")).unwrap().count();
        assert_eq!(kept, VERDICTS + 1, "and the lock");
        let last = format!("a_{}", VERDICTS + 9);
        assert_eq!(renewal.read_note(&last, None), Some(Verdict::Passed));
    }

    #[test]
    fn what_arrives_takes_the_place_and_the_one_before_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let renewal = renewal(folder.path());
        for (new, old) in [("two", "one"), ("three", "two")] {
            fs::write(folder.path().join("program.new"), new).unwrap();
            renewal.let_in().unwrap();
            let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!((read("program").as_str(), read("program.previous").as_str()), (new, old));
            assert!(!folder.path().join("program.new").exists());
        }
    }
}
