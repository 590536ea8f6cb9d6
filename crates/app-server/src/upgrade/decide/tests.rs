//! Tests of the decisions, in simulated time and with simulated files.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const BUSY: Traffic = Traffic { since_last: true, now: true };
const IDLE: Traffic = Traffic { since_last: false, now: false };

/// One process in simulated time.
struct Process {
    decision: Decision,
    files: Snapshot,
    now: Instant,
}

fn files() -> Snapshot {
    Snapshot {
        launcher: Some(Identity::fake(1, 0)),
        program: Some(Identity::fake(2, 0)),
        arriving: None,
        others: vec![None],
    }
}

fn start() -> AtStart {
    AtStart {
        files: files(),
        is_stand_in: false,
        judges_itself: false,
        idle_exit: None,
        origin: None,
        is_known_by_launcher: false,
    }
}

impl Process {
    fn new(start: AtStart) -> Self {
        let now = Instant::now();
        Process { files: start.files.clone(), decision: Decision::new(start, now), now }
    }

    fn after(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    fn step(&mut self, event: Observation) -> Action {
        self.decision.step(event, self.now)
    }

    /// Checks the files when the timer fires; returns the resulting action.
    fn look(&mut self, traffic: Traffic) -> Action {
        assert_eq!(self.step(Observation::Tick(traffic)), Action::Look);
        self.step(Observation::Looked(self.files.clone(), traffic))
    }

    /// Checks right before an accept.
    fn accept(&mut self) -> Action {
        self.step(Observation::Accepting(self.files.clone()))
    }

    fn verdict(&mut self, verdict: Verdict) -> Action {
        self.step(Observation::Judged(verdict, self.files.clone()))
    }

    fn touch(&mut self) -> &mut Self {
        self.files.launcher = Some(Identity::fake(1, 1));
        self
    }

    fn replace_launcher(&mut self) -> &mut Self {
        self.files.launcher = Some(Identity::fake(9, 0));
        self
    }

    fn wait(&self, time: Duration) -> Action {
        Action::Wait(Some(self.now + time))
    }

    fn judge(&self, version: Version, purpose: Purpose) -> Action {
        let key = self.files.key(version).unwrap();
        Action::Judge(Candidate { version, key, purpose })
    }
}

fn failed() -> Verdict {
    Verdict::Failed("why".to_owned())
}

fn unknown() -> Verdict {
    Verdict::Unknown("why".to_owned())
}

#[test]
fn files_are_checked_less_often_while_idle() {
    let mut process = Process::new(start());
    assert_eq!(process.step(Observation::Tick(IDLE)), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(IDLE), process.wait(IDLE_INTERVAL));
    // A request wakes it up: the next check is due at once, because the last one was long ago.
    process.after(5 * SECOND);
    assert_eq!(process.step(Observation::Tick(IDLE)), process.wait(IDLE_INTERVAL - 5 * SECOND));
    assert_eq!(process.look(BUSY), process.wait(SECOND));
}

#[test]
fn a_process_known_by_its_launcher_checks_more_often() {
    let mut process = Process::new(AtStart { is_known_by_launcher: true, ..start() });
    assert_eq!(process.after(SECOND).look(IDLE), process.wait(IDLE_INTERVAL_BY_LAUNCHER));
}

#[test]
fn an_old_check_does_not_count_before_an_accept() {
    let mut process = Process::new(start());
    assert!(!process.decision.is_late(process.now + 9 * SECOND), "busy: the timer checks");
    process.after(SECOND).look(IDLE);
    assert!(!process.decision.is_late(process.now));
    assert!(process.decision.is_late(process.now + SECOND));
    assert!(!process.decision.is_touched(process.files.launcher));
    process.touch();
    assert!(process.decision.is_touched(process.files.launcher));
}

#[test]
fn a_touch_restarts_the_running_version_without_a_verdict() {
    let mut process = Process::new(start());
    assert_eq!(process.touch().accept(), Action::Upgrade);
    let key = process.files.key(Version::Installed);
    assert_eq!(process.decision.ready_key(), key.as_deref());
}

#[test]
fn a_signal_works_like_a_touch() {
    let mut process = Process::new(start());
    let files = process.files.clone();
    assert_eq!(process.step(Observation::Asked(files)), Action::Upgrade);
}

#[test]
fn a_signal_during_a_check_counts_after_it() {
    let cases = [
        (Purpose::Record, Verdict::Passed, Action::Upgrade),
        (Purpose::Record, failed(), Action::Upgrade),
        (Purpose::Upgrade, Verdict::Passed, Action::Upgrade),
    ];
    for (purpose, verdict, expected) in cases {
        let records = purpose == Purpose::Record;
        let mut process = Process::new(AtStart { judges_itself: records, ..start() });
        if !records {
            process.files.program = Some(Identity::fake(2, 1));
        }
        let judging = process.judge(Version::Installed, purpose);
        assert_eq!(process.after(SECOND).look(BUSY), judging);
        let files = process.files.clone();
        assert!(matches!(process.step(Observation::Asked(files)), Action::Wait(_)));
        assert_eq!(process.verdict(verdict.clone()), expected, "{purpose:?} {verdict:?}");
    }
    // A version that failed is judged once more.
    let mut process = Process::new(start());
    process.files.program = Some(Identity::fake(2, 1));
    let judging = process.judge(Version::Installed, Purpose::Upgrade);
    assert_eq!(process.after(SECOND).look(BUSY), judging);
    let files = process.files.clone();
    process.step(Observation::Asked(files));
    assert_eq!(process.verdict(failed()), judging);
    assert!(matches!(process.verdict(failed()), Action::Wait(_)));
}

/// Otherwise each accept would look again, for ever.
#[test]
fn a_touch_while_a_version_is_judged_or_ready_changes_nothing_at_once() {
    let mut process = Process::new(start());
    process.files.program = Some(Identity::fake(2, 1));
    let judging = process.judge(Version::Installed, Purpose::Upgrade);
    assert_eq!(process.after(SECOND).look(BUSY), judging);
    assert!(matches!(process.touch().accept(), Action::Wait(_)));
    assert_eq!(process.verdict(Verdict::Passed), Action::Upgrade);
    assert!(matches!(process.touch().accept(), Action::Wait(_)));
    assert_eq!(process.step(Observation::Tick(BUSY)), Action::Upgrade);
}

#[test]
fn accepting_waits_a_second_for_the_verdict_on_a_changed_file() {
    for change in [
        |files: &mut Snapshot| files.program = Some(Identity::fake(3, 0)),
        |files: &mut Snapshot| files.others = vec![Some(Identity::fake(4, 0))],
    ] {
        let mut process = Process::new(start());
        change(&mut process.files);
        let action = process.after(SECOND).look(BUSY);
        assert_eq!(action, process.judge(Version::Installed, Purpose::Upgrade));
        assert!(process.decision.holds(process.now));
        assert_eq!(process.step(Observation::Tick(BUSY)), process.wait(HOLD));
        process.after(HOLD);
        assert!(!process.decision.holds(process.now));
        assert_eq!(process.step(Observation::Tick(BUSY)), Action::Wait(None));
        assert_eq!(process.verdict(Verdict::Passed), Action::Upgrade);
    }
}

#[test]
fn a_missing_program_is_not_a_change() {
    let mut process = Process::new(start());
    process.files.program = None;
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
}

#[test]
fn a_failure_is_judged_again_after_a_change_and_an_unknown_at_the_next_check() {
    let mut process = Process::new(start());
    process.files.program = Some(Identity::fake(3, 0));
    let judge = process.judge(Version::Installed, Purpose::Upgrade);
    assert_eq!(process.after(SECOND).look(BUSY), judge);
    assert_eq!(process.verdict(unknown()), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(BUSY), judge);
    assert_eq!(process.verdict(failed()), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND), "nothing has changed");
    assert_eq!(process.touch().accept(), judge, "a touch is a change");
}

#[test]
fn an_arriving_version_is_judged_once_it_has_settled() {
    let mut process = Process::new(start());
    process.files.arriving = Some(Identity::fake(5, 0));
    assert_eq!(process.after(SECOND).look(IDLE), process.wait(INTERVAL), "not the idle interval");
    process.files.arriving = Some(Identity::fake(5, 1));
    assert_eq!(process.after(SECOND).look(IDLE), process.wait(INTERVAL), "still growing");
    assert_eq!(process.after(SECOND).look(IDLE), process.wait(INTERVAL));
    let judge = process.judge(Version::Arriving, Purpose::Upgrade);
    assert_eq!(process.after(SECOND).look(IDLE), judge);
    assert_eq!(process.verdict(failed()), process.wait(SECOND));
    for _ in 0..5 {
        assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND), "once");
    }
    assert_eq!(
        process.touch().accept(),
        process.judge(Version::Arriving, Purpose::UpgradeToEither),
        "a touch triggers another attempt"
    );
}

#[test]
fn a_failed_arrival_with_a_touch_falls_back_to_the_installed_program() {
    for verdict in [failed(), unknown()] {
        let mut process = Process::new(start());
        process.files.arriving = Some(Identity::fake(5, 0));
        let judge = process.judge(Version::Arriving, Purpose::UpgradeToEither);
        assert_eq!(process.touch().accept(), judge, "does not have to settle");
        assert_eq!(
            process.verdict(verdict),
            Action::Upgrade,
            "the running version needs no verdict"
        );
    }
}

#[test]
fn an_arrival_that_passed_becomes_the_installed_program() {
    let mut process = Process::new(start());
    process.files.arriving = Some(Identity::fake(5, 0));
    process.touch().accept();
    process.files.program = process.files.arriving.take();
    assert_eq!(process.verdict(Verdict::Passed), Action::Upgrade);
    assert_eq!(process.decision.ready_key(), process.files.key(Version::Installed).as_deref());
}

#[test]
fn a_configuration_changed_during_a_check_is_judged_too() {
    let mut process = Process::new(start());
    process.files.arriving = Some(Identity::fake(5, 0));
    process.touch().accept();
    process.files.program = process.files.arriving.take();
    process.files.others = vec![Some(Identity::fake(4, 0))];
    let judge = process.judge(Version::Installed, Purpose::Upgrade);
    assert_eq!(process.verdict(Verdict::Passed), judge);
}

#[test]
fn a_stand_in_judges_the_installed_program_at_once() {
    let mut process = Process::new(AtStart { is_stand_in: true, judges_itself: true, ..start() });
    let judge = process.judge(Version::Installed, Purpose::Upgrade);
    assert_eq!(process.look(IDLE), judge);
    assert_eq!(process.verdict(failed()), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
}

#[test]
fn the_running_version_is_judged_once_without_delaying_requests() {
    let mut process = Process::new(AtStart { judges_itself: true, ..start() });
    let judge = process.judge(Version::Installed, Purpose::Record);
    assert_eq!(process.after(SECOND).look(BUSY), judge);
    assert!(!process.decision.holds(process.now));
    assert_eq!(process.verdict(Verdict::Passed), process.wait(SECOND), "no upgrade follows");
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
}

#[test]
fn a_postponed_upgrade_is_retried_when_nothing_is_in_flight() {
    let mut process = Process::new(start());
    process.touch().accept();
    for (attempt, pause) in RETRIES.into_iter().chain([RETRIES[3]]).enumerate() {
        assert_eq!(process.decision.was_put_off(), attempt > 0);
        process.step(Observation::PutOff(Obstacle::InFlight));
        assert_eq!(process.step(Observation::Tick(BUSY)), process.wait(QUIET_INTERVAL));
        assert_eq!(process.step(Observation::Tick(IDLE)), Action::Upgrade);
        assert_eq!(process.after(pause).step(Observation::Tick(BUSY)), Action::Upgrade);
    }
    process.step(Observation::PutOff(Obstacle::BeingWritten));
    assert_eq!(process.after(QUIET_INTERVAL).step(Observation::Tick(BUSY)), Action::Upgrade);
}

#[test]
fn files_changed_after_the_verdict_are_checked_again() {
    let mut process = Process::new(start());
    process.touch().accept();
    assert_eq!(process.step(Observation::PutOff(Obstacle::Changed)), process.wait(Duration::ZERO));
    assert_eq!(process.decision.ready_key(), None);
    assert_eq!(process.look(BUSY), Action::Upgrade, "same program as the running one");
}

#[test]
fn a_program_that_failed_to_execute_is_judged_again_first() {
    let mut process = Process::new(start());
    process.touch().accept();
    process.step(Observation::PutOff(Obstacle::NotExecuted));
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
    process.files.launcher = Some(Identity::fake(1, 2));
    let judge = process.judge(Version::Installed, Purpose::Upgrade);
    assert_eq!(process.accept(), judge);
}

#[test]
fn an_idle_process_exits() {
    let patience = 15 * 60 * SECOND;
    let mut process = Process::new(AtStart { idle_exit: Some(patience), ..start() });
    process.after(SECOND).look(BUSY);
    let mut idle = Duration::ZERO;
    loop {
        let action = process.after(SECOND).step(Observation::Tick(IDLE));
        idle += SECOND;
        if action != Action::Look {
            continue;
        }
        match process.step(Observation::Looked(process.files.clone(), IDLE)) {
            Action::Wait(_) => assert!(idle < patience),
            action => {
                assert_eq!(action, Action::Exit(ExitReason::Idle(patience)));
                break;
            }
        }
    }
    assert!((patience..patience + IDLE_INTERVAL).contains(&idle), "{idle:?}");
}

#[test]
fn a_process_whose_launcher_was_replaced_is_idle_for_a_minute() {
    let quarter = 15 * 60 * SECOND;
    let mut process = Process::new(AtStart { idle_exit: Some(quarter), ..start() });
    assert_eq!(process.decision.patience(), Some(quarter));
    // A touch leaves the file the same; a replacement does not.
    process.touch().accept();
    assert_eq!(process.decision.patience(), Some(quarter));
    process.step(Observation::PutOff(Obstacle::Changed));
    process.replace_launcher().accept();
    assert_eq!(process.decision.patience(), Some(UNREACHABLE));
    // The next image learns from which file the process was started.
    let origin = process.decision.origin().map(str::to_owned);
    let files = process.files.clone();
    let next = Process::new(AtStart { idle_exit: Some(quarter), origin, files, ..start() });
    assert_eq!(next.decision.patience(), Some(UNREACHABLE));
    assert_eq!(Process::new(start()).decision.patience(), None);
}

#[test]
fn a_process_known_by_a_launcher_that_was_replaced_exits_soon() {
    let mut process = Process::new(AtStart { is_known_by_launcher: true, ..start() });
    process.after(SECOND).look(BUSY);
    let action = process.replace_launcher().after(SECOND).look(BUSY);
    assert_eq!(action, process.wait(SECOND), "it does not upgrade");
    assert_eq!(process.after(SECOND).look(BUSY), Action::Exit(ExitReason::LauncherReplaced));
    // While the file is missing, it is unknown what will follow.
    let mut process = Process::new(AtStart { is_known_by_launcher: true, ..start() });
    process.replace_launcher().after(SECOND).look(BUSY);
    process.files.launcher = None;
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
    process.files.launcher = Some(Identity::fake(1, 0));
    assert_eq!(
        process.after(SECOND).look(BUSY),
        Action::Upgrade,
        "it is back, which counts as a touch"
    );
    // Other web servers keep sending requests.
    let mut process = Process::new(start());
    process.after(SECOND).look(BUSY);
    let action = process.replace_launcher().after(SECOND).look(BUSY);
    assert_eq!(action, Action::Upgrade);
}

#[test]
fn requests_with_child_processes_put_an_upgrade_off_for_a_minute() {
    let mut process = Process::new(start());
    process.after(SECOND).touch();
    assert_eq!(process.accept(), Action::Upgrade);
    let nothing = LastLook { is_still_good: true, in_flight: 0, children: 0, draining: 0 };
    let waits = Some(Obstacle::InFlight);
    for (look, at_first, after_a_minute) in [
        (nothing, None, None),
        (LastLook { in_flight: 1, ..nothing }, None, None),
        (LastLook { in_flight: 1, children: 1, ..nothing }, waits, None),
        (LastLook { in_flight: 1, draining: MAX_DRAINING - 1, ..nothing }, None, None),
        (LastLook { in_flight: 1, draining: MAX_DRAINING, ..nothing }, waits, None),
        // Nothing in flight needs them.
        (LastLook { children: 1, draining: MAX_DRAINING, ..nothing }, None, None),
    ] {
        let obstacle = |after| process.decision.obstacle(look, process.now + after);
        assert_eq!(obstacle(CHILDREN_PATIENCE - SECOND), at_first, "{look:?}");
        assert_eq!(obstacle(CHILDREN_PATIENCE), after_a_minute, "{look:?}");
        let changed = LastLook { is_still_good: false, ..look };
        let obstacle = process.decision.obstacle(changed, process.now);
        assert_eq!(obstacle, Some(Obstacle::Changed), "{look:?}");
    }
}
