//! Decides what a process does about new versions: observations and the time in, an action out. Nothing
//! here reads files, waits or executes anything.
//!
//! - The launcher is checked before each accept; all files are checked every [`INTERVAL`] while there are
//!   requests, and less often while there are none.
//! - A version is judged before it runs in place of this one, unless it is the one that is already
//!   running.
//! - A version that failed is not judged again until something changes. Touching the launcher is a
//!   change.

use std::time::{Duration, Instant};

use crate::upgrade::verdicts::Verdict;
use crate::upgrade::watch::{Identity, Snapshot, Version};

/// How often files are checked while there are requests.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// How often files are checked while there are none.
pub(crate) const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// The same behind a web server that identifies processes by their launcher: a process whose launcher was
/// replaced has to make room soon.
const IDLE_INTERVAL_BY_LAUNCHER: Duration = Duration::from_secs(2);

/// How long another file must have been in the launcher's place before this process concludes that it
/// will receive no more requests.
const REPLACED: Duration = Duration::from_secs(1);

/// How long accepting waits for a verdict, so that the new version answers what arrives meanwhile.
const HOLD: Duration = Duration::from_secs(1);

/// How long a version that has arrived must stay unchanged before it is judged: uploads arrive in pieces.
const SETTLED: Duration = Duration::from_secs(2);

/// How long a process that receives no more requests may be idle before it exits.
const UNREACHABLE: Duration = Duration::from_secs(60);

/// When an upgrade that was put off is retried, unless the process has nothing in flight earlier.
const RETRIES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// From this number of draining children on, an upgrade that needs another one waits. Hosts limit the number of
/// processes.
const MAX_DRAINING: usize = 4;

/// How long an upgrade waits for requests that run child processes, or for draining children to exit.
const CHILDREN_PATIENCE: Duration = Duration::from_secs(60);

/// How often to check whether nothing is in flight.
const QUIET_INTERVAL: Duration = Duration::from_millis(50);

/// What has been observed.
#[derive(Debug)]
pub(crate) enum Observation {
    /// Time has passed.
    Tick(Traffic),
    /// The files were checked, as requested by [`Action::Look`].
    Looked(Snapshot, Traffic),
    /// The files were checked right before an accept.
    Accepting(Snapshot),
    /// The owner requests an upgrade by a signal.
    Asked(Snapshot),
    /// The verdict on what [`Action::Judge`] named, and the files as they are after it.
    Judged(Verdict, Snapshot),
    /// An upgrade was put off or failed.
    PutOff(Obstacle),
}

/// What the connections have been doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Whether there was a request since this was last queried. Queried only while [`Decision::is_idle`]
    /// or when checking files.
    pub(crate) since_last: bool,
    /// Whether a request is in flight.
    pub(crate) now: bool,
}

/// Why an upgrade was put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Something is in flight that only this process can complete.
    InFlight,
    /// The new program is open for writing.
    BeingWritten,
    /// The files differ from those that passed.
    Changed,
    /// Executing the new program failed.
    NotExecuted,
}

/// What the process looks like right before it becomes the new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastLook {
    /// Whether the files are still those that passed.
    pub(crate) is_still_good: bool,
    /// Connections with a request in flight.
    pub(crate) in_flight: usize,
    /// Child processes that work for them. Only this process can wait for those.
    pub(crate) children: usize,
    /// Draining children of earlier upgrades.
    pub(crate) draining: usize,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Do nothing before then; `None`: nothing before the verdict.
    Wait(Option<Instant>),
    /// Check the files.
    Look,
    /// Reach a verdict.
    Judge(Candidate),
    /// Become the new version.
    Upgrade,
    /// Exit.
    Exit(ExitReason),
}

/// A version to be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) version: Version,
    pub(crate) key: String,
    pub(crate) purpose: Purpose,
}

/// What a verdict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To upgrade to the version if it passes.
    Upgrade,
    /// The same; and if it does not pass, to consider the installed program, which has changed too.
    UpgradeToEither,
    /// To record it for the process that starts the program next.
    Record,
}

/// Why a process exits without being asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitReason {
    /// Another file is in the launcher's place: the web server sends no more requests.
    LauncherReplaced,
    /// No request for this long.
    Idle(Duration),
}

/// What a process knows about itself at startup.
#[derive(Clone, Debug)]
pub(crate) struct AtStart {
    /// The files before any of them was read.
    pub(crate) files: Snapshot,
    /// Whether the running program was started in place of the installed one, which is then judged at
    /// once.
    pub(crate) is_stand_in: bool,
    /// Whether the running version is judged too if it has no verdict.
    pub(crate) judges_itself: bool,
    /// Exit after this long without requests; `None`: never.
    pub(crate) idle_exit: Option<Duration>,
    /// The launcher's file when the web server started this process, if an earlier version has handed it
    /// over.
    pub(crate) origin: Option<String>,
    /// Whether the web server is mod_fcgid: it identifies this process by its launcher's file and, once
    /// another file is in its place, sends no more requests but still counts the process.
    pub(crate) is_known_by_launcher: bool,
}

/// The state of one process with regard to new versions.
#[derive(Debug)]
pub(crate) struct Decision {
    state: Progress,
    /// The files as last checked.
    seen: Snapshot,
    /// What this process was started from, or was judged to be equivalent to: needs no verdict.
    running: Option<String>,
    arrival: ArrivingVersion,
    next_look: Instant,
    last_look: Instant,
    /// Whether there was no request between the last two checks.
    is_idle: bool,
    last_active: Instant,
    idle_exit: Option<Duration>,
    origin: Option<String>,
    is_known_by_launcher: bool,
    /// Since when another file has been in the launcher's place.
    replaced_since: Option<Instant>,
    left_from_start: LeftFromStart,
}

/// What a process has yet to do since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeftFromStart {
    Nothing,
    /// To consider the installed program, because another was started in its place.
    InstalledProgram,
    /// To judge the running version.
    RunningVersion,
}

#[derive(Debug)]
enum Progress {
    Watching,
    Judging {
        candidate: Candidate,
        /// Until when accepting waits.
        hold_until: Option<Instant>,
        /// Whether the owner has asked for an upgrade meanwhile.
        was_asked: bool,
    },
    /// A version that has passed.
    Ready {
        key: String,
        since: Instant,
        attempts: usize,
        retry_at: Instant,
    },
}

/// What is known of the version beside the program.
#[derive(Clone, Copy, Debug)]
enum ArrivingVersion {
    None,
    /// It has been unchanged since then.
    Settling(Identity, Instant),
    /// It has a verdict.
    Judged(Identity),
}

impl Decision {
    pub(crate) fn new(start: AtStart, now: Instant) -> Self {
        let AtStart { files, is_stand_in, judges_itself, idle_exit, origin, is_known_by_launcher } =
            start;
        Decision {
            state: Progress::Watching,
            running: if is_stand_in { None } else { files.key(Version::Installed) },
            arrival: ArrivingVersion::None,
            next_look: if is_stand_in { now } else { now + INTERVAL },
            last_look: now,
            is_idle: false,
            last_active: now,
            idle_exit,
            origin: origin.or_else(|| files.launcher.map(|it| it.file())),
            is_known_by_launcher,
            replaced_since: None,
            left_from_start: match (is_stand_in, judges_itself) {
                (true, _) => LeftFromStart::InstalledProgram,
                (false, true) => LeftFromStart::RunningVersion,
                (false, false) => LeftFromStart::Nothing,
            },
            seen: files,
        }
    }

    /// The transition function: returns the action that follows from an observation.
    pub(crate) fn step(&mut self, event: Observation, now: Instant) -> Action {
        match event {
            Observation::Tick(traffic) => self.tick(traffic, now),
            Observation::Looked(files, traffic) => self.looked(files, traffic, now),
            Observation::Accepting(files) => {
                self.last_look = now;
                self.consider(files, false, now).unwrap_or_else(|| self.wait(now))
            }
            Observation::Asked(files) => {
                if let Progress::Judging { was_asked, .. } = &mut self.state {
                    *was_asked = true;
                }
                self.consider(files, true, now).unwrap_or_else(|| self.wait(now))
            }
            Observation::Judged(verdict, files) => self.judged(verdict, files, now),
            Observation::PutOff(obstacle) => self.put_off(obstacle, now),
        }
    }

    // Queries.

    /// Whether there has been no request since the last check.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// Whether accepting has to wait.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        matches!(self.state, Progress::Judging { hold_until: Some(until), .. } if now < until)
    }

    /// Whether the last check is too old to accept a connection after it: while idle, files are checked
    /// rarely.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.is_idle && now.saturating_duration_since(self.last_look) >= INTERVAL
    }

    /// Whether the launcher has changed since the last check.
    pub(crate) fn is_touched(&self, launcher: Option<Identity>) -> bool {
        launcher != self.seen.launcher
    }

    /// What is to be executed; `None` unless it has passed.
    pub(crate) fn ready_key(&self) -> Option<&str> {
        match &self.state {
            Progress::Ready { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Returns what prevents the upgrade, as far as that is known before anything is done.
    pub(crate) fn obstacle(&self, look: LastLook, now: Instant) -> Option<Obstacle> {
        let Progress::Ready { since, .. } = &self.state else { return Some(Obstacle::Changed) };
        if !look.is_still_good {
            return Some(Obstacle::Changed);
        }
        let cannot_be_left = look.children > 0 || look.draining >= MAX_DRAINING;
        let waits = look.in_flight > 0
            && cannot_be_left
            && now.saturating_duration_since(*since) < CHILDREN_PATIENCE;
        waits.then_some(Obstacle::InFlight)
    }

    /// Whether the upgrade was put off before.
    pub(crate) fn was_put_off(&self) -> bool {
        matches!(&self.state, Progress::Ready { attempts: 1.., .. })
    }

    /// The launcher's file when the web server started this process.
    pub(crate) fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    // Transitions.

    fn tick(&mut self, traffic: Traffic, now: Instant) -> Action {
        match &self.state {
            Progress::Watching => {
                if self.is_idle && traffic.since_last {
                    self.is_idle = false;
                    self.last_active = now;
                    self.next_look = now.max(self.last_look + INTERVAL);
                }
                if now >= self.next_look { Action::Look } else { self.wait(now) }
            }
            Progress::Judging { .. } => self.wait(now),
            Progress::Ready { attempts, retry_at, .. } => {
                let is_due = *attempts == 0 || !traffic.now || now >= *retry_at;
                if is_due { Action::Upgrade } else { self.wait(now) }
            }
        }
    }

    fn wait(&self, now: Instant) -> Action {
        Action::Wait(match &self.state {
            Progress::Watching => Some(self.next_look),
            Progress::Judging { hold_until, .. } => hold_until.filter(|until| now < *until),
            Progress::Ready { retry_at, .. } => Some((now + QUIET_INTERVAL).min(*retry_at)),
        })
    }

    fn looked(&mut self, files: Snapshot, traffic: Traffic, now: Instant) -> Action {
        self.last_look = now;
        self.is_idle = !(traffic.since_last || traffic.now);
        if !self.is_idle {
            self.last_active = now;
        }
        self.next_look = now + INTERVAL;
        if let Some(action) = self.consider(files, false, now) {
            return action;
        }
        if let Some(reason) = self.exit_reason(now) {
            return Action::Exit(reason);
        }
        self.next_look = now + self.interval();
        Action::Wait(Some(self.next_look))
    }

    fn exit_reason(&self, now: Instant) -> Option<ExitReason> {
        if let Some(since) = self.replaced_since
            && now.saturating_duration_since(since) >= REPLACED
        {
            return Some(ExitReason::LauncherReplaced);
        }
        let patience = self.patience()?;
        let is_over = now.saturating_duration_since(self.last_active) >= patience;
        is_over.then_some(ExitReason::Idle(patience))
    }

    fn interval(&self) -> Duration {
        let is_settling =
            matches!(self.arrival, ArrivingVersion::Settling(..)) || self.replaced_since.is_some();
        let interval = match self.is_idle && !is_settling {
            true if self.is_known_by_launcher => IDLE_INTERVAL_BY_LAUNCHER,
            true => IDLE_INTERVAL,
            false => INTERVAL,
        };
        self.patience().map_or(interval, |patience| interval.min(patience))
    }

    /// How long this process may be idle.
    fn patience(&self) -> Option<Duration> {
        let patience = self.idle_exit?;
        let launcher = self.seen.launcher.map(|it| it.file());
        match &self.origin {
            Some(origin) if launcher.as_ref() != Some(origin) => Some(patience.min(UNREACHABLE)),
            _ => Some(patience),
        }
    }

    /// Returns what follows from the current files; `None` if nothing does.
    fn consider(&mut self, files: Snapshot, asked: bool, now: Instant) -> Option<Action> {
        if !matches!(self.state, Progress::Watching) {
            return None;
        }
        self.note_replacement(&files, now);
        if self.replaced_since.is_some() && !asked {
            // A process that is about to exit does not need a newer version.
            self.seen = files;
            return None;
        }
        let touched = asked || files.launcher.is_some() && files.launcher != self.seen.launcher;
        let program = self.take_from_start(LeftFromStart::InstalledProgram)
            || files.program.is_some() && files.program != self.seen.program;
        let changed = touched || program || files.others != self.seen.others;
        let is_arrival_due = self.note_arrival(files.arriving, touched, now);
        self.seen = files;
        if is_arrival_due && let Some(key) = self.seen.key(Version::Arriving) {
            let purpose = if changed { Purpose::UpgradeToEither } else { Purpose::Upgrade };
            return Some(self.judge(Version::Arriving, key, purpose, now));
        }
        if changed {
            return self.consider_program(now);
        }
        if self.take_from_start(LeftFromStart::RunningVersion) {
            let key = self.running.clone()?;
            return Some(self.judge(Version::Installed, key, Purpose::Record, now));
        }
        None
    }

    /// Returns whether this was left to do, which it is no longer.
    fn take_from_start(&mut self, task: LeftFromStart) -> bool {
        let is_left = self.left_from_start == task;
        if is_left {
            self.left_from_start = LeftFromStart::Nothing;
        }
        is_left
    }

    /// Records whether another file is in the launcher's place. A missing one may come back.
    fn note_replacement(&mut self, files: &Snapshot, now: Instant) {
        let launcher = files.launcher.map(|it| it.file());
        let is_replaced =
            self.is_known_by_launcher && launcher.is_some() && launcher != self.origin;
        self.replaced_since = is_replaced.then(|| self.replaced_since.unwrap_or(now));
    }

    /// Records what has arrived. Returns whether to judge it: the launcher was touched, or it has been
    /// unchanged for long enough.
    fn note_arrival(&mut self, arriving: Option<Identity>, touched: bool, now: Instant) -> bool {
        let Some(arriving) = arriving else {
            self.arrival = ArrivingVersion::None;
            return false;
        };
        let is_due = touched
            || match self.arrival {
                ArrivingVersion::Settling(known, since) if known == arriving => {
                    now.saturating_duration_since(since) >= SETTLED
                }
                ArrivingVersion::Judged(known) if known == arriving => return false,
                _ => {
                    self.arrival = ArrivingVersion::Settling(arriving, now);
                    false
                }
            };
        if is_due {
            self.arrival = ArrivingVersion::Judged(arriving);
        }
        is_due
    }

    fn consider_program(&mut self, now: Instant) -> Option<Action> {
        let key = self.seen.key(Version::Installed)?;
        if self.running.as_ref() == Some(&key) {
            return Some(self.become_ready(key, now));
        }
        Some(self.judge(Version::Installed, key, Purpose::Upgrade, now))
    }

    fn judge(&mut self, version: Version, key: String, purpose: Purpose, now: Instant) -> Action {
        let candidate = Candidate { version, key, purpose };
        let hold_until = (purpose != Purpose::Record).then(|| now + HOLD);
        self.state =
            Progress::Judging { candidate: candidate.clone(), hold_until, was_asked: false };
        Action::Judge(candidate)
    }

    fn judged(&mut self, verdict: Verdict, files: Snapshot, now: Instant) -> Action {
        let state = std::mem::replace(&mut self.state, Progress::Watching);
        let Progress::Judging { candidate: Candidate { version, purpose, .. }, was_asked, .. } =
            state
        else {
            self.state = state;
            return self.wait(now);
        };
        if purpose != Purpose::Record && verdict == Verdict::Passed {
            return self.passed(version, files, now).unwrap_or_else(|| self.wait(now));
        }
        if purpose != Purpose::Record && matches!(verdict, Verdict::Unknown(_)) {
            // The next check finds it changed again.
            match version {
                Version::Installed => self.seen.program = None,
                Version::Arriving => self.arrival = ArrivingVersion::None,
            }
        }
        let other = if was_asked {
            self.consider(files, true, now)
        } else if purpose == Purpose::UpgradeToEither {
            self.consider_program(now)
        } else {
            None
        };
        other.unwrap_or_else(|| self.wait(now))
    }

    fn passed(&mut self, version: Version, files: Snapshot, now: Instant) -> Option<Action> {
        if version == Version::Arriving {
            // It is now the installed program.
            let before = std::mem::replace(&mut self.seen, files);
            if before.others != self.seen.others {
                return self.consider_program(now);
            }
        }
        self.running = self.seen.key(Version::Installed);
        let key = self.running.clone()?;
        Some(self.become_ready(key, now))
    }

    fn become_ready(&mut self, key: String, now: Instant) -> Action {
        self.state = Progress::Ready { key, since: now, attempts: 0, retry_at: now };
        Action::Upgrade
    }

    fn put_off(&mut self, obstacle: Obstacle, now: Instant) -> Action {
        match (obstacle, &mut self.state) {
            (
                Obstacle::InFlight | Obstacle::BeingWritten,
                Progress::Ready { attempts, retry_at, .. },
            ) => {
                let pause = match obstacle {
                    Obstacle::BeingWritten => QUIET_INTERVAL,
                    _ => RETRIES[(*attempts).min(RETRIES.len() - 1)],
                };
                *attempts += 1;
                *retry_at = now + pause;
            }
            (Obstacle::Changed, _) => {
                self.state = Progress::Watching;
                self.seen.program = None;
                self.next_look = now;
            }
            (Obstacle::NotExecuted, _) => {
                self.state = Progress::Watching;
                self.running = None;
            }
            (_, Progress::Watching | Progress::Judging { .. }) => {}
        }
        self.wait(now)
    }
}

#[cfg(test)]
mod tests;
