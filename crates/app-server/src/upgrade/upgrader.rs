//! Drives [`decide`](super::decide) with the files, the clock and the verdicts of this process.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use event_loop::time::{self, Sleep};
use process::reexec::Image;

use crate::host::Host;
use crate::upgrade::Upgrade;
use crate::upgrade::decide::{
    Action, AtStart, Candidate, Decision, ExitReason, INTERVAL, LastLook, Observation, Obstacle,
    Purpose, Traffic,
};
use crate::upgrade::verdicts::Verdict;
use crate::upgrade::watch::{Identity, Snapshot, Version};

/// What the server has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Become the new version.
    Upgrade,
    /// Exit: there have been no requests for a long time, or there never will be any.
    Exit,
}

/// What the connections of this process are doing.
pub(crate) trait RequestActivity {
    /// Whether there was a request since the last call; if not, wakes the task on the next one.
    fn was_active(&self, context: &Context<'_>) -> bool;

    /// Whether a request is in flight.
    fn is_busy(&self) -> bool;
}

/// Facts about the process that the [`Upgrade`] does not know.
pub(crate) struct Circumstances {
    pub(crate) idle_exit: Option<Duration>,
    pub(crate) origin: Option<String>,
    pub(crate) is_known_by_launcher: bool,
    pub(crate) host: Rc<dyn Host>,
}

/// Keeps one process up to date.
pub(crate) struct Upgrader {
    settings: Upgrade,
    host: Rc<dyn Host>,
    image: Image,
    decision: Decision,
    judging: Option<Pin<Box<dyn Future<Output = Verdict>>>>,
    alarm: Sleep,
    alarm_at: Instant,
    /// Whether a missing program has been logged.
    has_reported_missing: bool,
}

impl Upgrader {
    pub(crate) fn new(settings: Upgrade, circumstances: Circumstances) -> io::Result<Upgrader> {
        let Circumstances { idle_exit, origin, is_known_by_launcher, host } = circumstances;
        let start = AtStart {
            files: settings.at_start.clone(),
            is_stand_in: settings.is_stand_in,
            judges_itself: settings.judges_itself,
            idle_exit,
            origin,
            is_known_by_launcher,
        };
        let now = time::now();
        Ok(Upgrader {
            image: image(&settings)?,
            decision: Decision::new(start, now),
            settings,
            host,
            judging: None,
            alarm: time::sleep(INTERVAL),
            alarm_at: now + INTERVAL,
            has_reported_missing: false,
        })
    }

    /// Checks for newer versions right before an accept. Returns whether anything follows. Costs one
    /// `stat(2)`, and after an idle period a check of all files.
    pub(crate) fn looks_before_accept(&mut self) -> bool {
        let is_touched = || match &self.settings.judge.paths.launcher {
            Some(launcher) => self.decision.is_touched(Identity::of(launcher)),
            None => false,
        };
        if !self.decision.is_late(time::now()) && !is_touched() {
            return false;
        }
        let files = self.look();
        self.start(Observation::Accepting(files))
    }

    /// Whether accepting has to wait.
    pub(crate) fn holds(&self) -> bool {
        self.decision.holds(time::now())
    }

    /// Upgrades even if nothing has changed: the owner requests it by a signal.
    pub(crate) fn ask(&mut self) {
        tracing::info!("SIGHUP received; upgrading.");
        let files = self.look();
        self.start(Observation::Asked(files));
    }

    /// Takes a step outside of [`Upgrader::poll`], which continues from there. Returns whether there is
    /// more to do than to wait for the next check.
    fn start(&mut self, event: Observation) -> bool {
        match self.decision.step(event, time::now()) {
            Action::Judge(candidate) => {
                self.judging = Some(self.judge(candidate));
                true
            }
            Action::Wait(_) | Action::Look => false,
            Action::Upgrade | Action::Exit(_) => true,
        }
    }

    /// Ready when the server has something to do.
    pub(crate) fn poll(
        &mut self,
        connections: &impl RequestActivity,
        context: &mut Context<'_>,
    ) -> Poll<Act> {
        let mut event = self.next_event(connections, context);
        loop {
            match self.decision.step(event, time::now()) {
                Action::Wait(until) => {
                    if self.poll_alarm(until, context).is_pending() {
                        return Poll::Pending;
                    }
                    event = self.next_event(connections, context);
                }
                Action::Look => {
                    self.host.on_look();
                    let traffic = Traffic {
                        since_last: connections.was_active(context),
                        now: connections.is_busy(),
                    };
                    event = Observation::Looked(self.look(), traffic);
                }
                Action::Judge(candidate) => {
                    self.judging = Some(self.judge(candidate));
                    event = self.next_event(connections, context);
                }
                Action::Upgrade => return Poll::Ready(Act::Upgrade),
                Action::Exit(reason) => {
                    report_exit(reason);
                    return Poll::Ready(Act::Exit);
                }
            }
        }
    }

    fn next_event(
        &mut self,
        connections: &impl RequestActivity,
        context: &mut Context<'_>,
    ) -> Observation {
        if let Some(judging) = &mut self.judging
            && let Poll::Ready(verdict) = judging.as_mut().poll(context)
        {
            self.judging = None;
            return Observation::Judged(verdict, self.look());
        }
        Observation::Tick(Traffic {
            since_last: self.decision.is_idle() && connections.was_active(context),
            now: self.decision.ready_key().is_some() && connections.is_busy(),
        })
    }

    fn poll_alarm(&mut self, until: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = until else { return Poll::Pending };
        if self.alarm_at != until {
            self.alarm_at = until;
            self.alarm.reset(until);
        }
        Pin::new(&mut self.alarm).poll(context)
    }

    fn look(&mut self) -> Snapshot {
        let files = self.settings.look();
        let is_missing = files.program.is_none();
        if is_missing && !self.has_reported_missing {
            let program = self.settings.judge.paths.program.display();
            tracing::warn!(%program, "Program is missing; the running version continues.");
        }
        self.has_reported_missing = is_missing;
        files
    }

    fn judge(&self, candidate: Candidate) -> Pin<Box<dyn Future<Output = Verdict>>> {
        let judge = self.settings.judge.clone();
        Box::pin(async move {
            let Candidate { version, key, purpose } = candidate;
            if purpose == Purpose::Record
                && let Some(verdict) = judge.recorded(&key)
            {
                return verdict;
            }
            judge.judge(version, &key, false).await
        })
    }

    // For the upgrade itself.

    /// Returns what prevents the upgrade, right before the exec. `in_flight`: connections with a request.
    pub(crate) fn obstacle(&self, in_flight: usize) -> Option<Obstacle> {
        let key = self.settings.look().key(Version::Installed);
        let look = LastLook {
            is_still_good: key.is_some() && key.as_deref() == self.decision.ready_key(),
            in_flight,
            children: process::running(),
            draining: process::running_in_background(),
        };
        self.decision.obstacle(look, time::now())
    }

    /// Whether the upgrade was put off before, and the log says why.
    pub(crate) fn was_put_off(&self) -> bool {
        self.decision.was_put_off()
    }

    /// Records that the upgrade was put off or failed.
    pub(crate) fn put_off(&mut self, obstacle: Obstacle) {
        self.decision.step(Observation::PutOff(obstacle), time::now());
    }

    /// The launcher's file when the web server started this process.
    pub(crate) fn origin(&self) -> Option<&str> {
        self.decision.origin()
    }

    /// The new program, ready to be executed.
    pub(crate) fn image(&mut self) -> &mut Image {
        &mut self.image
    }
}

/// Prepares the installed program with the arguments and environment of this process.
fn image(settings: &Upgrade) -> io::Result<Image> {
    let program = &settings.judge.paths.program;
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(name) = arguments.first_mut() {
        *name = program.clone().into();
    }
    let is_set = |name: &OsString| settings.variables.iter().any(|(known, _)| known == name);
    let inherited = std::env::vars_os().filter(|(name, _)| !is_set(name));
    let environment = inherited.chain(settings.variables.iter().cloned());
    Image::prepare(program, arguments, environment)
}

fn report_exit(reason: ExitReason) {
    match reason {
        ExitReason::LauncherReplaced => tracing::info!(
            "Launcher replaced by another file; the web server will not send this process any more \
             requests. Exiting."
        ),
        ExitReason::Idle(time) => {
            tracing::info!("Idle for {} s; exiting (idle_exit).", time.as_secs());
        }
    }
}
