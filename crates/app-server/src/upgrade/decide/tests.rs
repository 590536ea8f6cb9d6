//! What follows from what, in made-up time and with made-up files.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const BUSY: Activity = Activity { since_last: true, now: true };
const IDLE: Activity = Activity { since_last: false, now: false };

/// One process in made-up time.
struct Process {
    decision: Decision,
    files: Snapshot,
    now: Instant,
}

fn files() -> Snapshot {
    Snapshot {
        launcher: Some(Identity::made_up(1, 0)),
        program: Some(Identity::made_up(2, 0)),
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

    /// Looks as the clock demands; the action of the look.
    fn look(&mut self, activity: Activity) -> Action {
        assert_eq!(self.step(Observation::Tick(activity)), Action::Look);
        self.step(Observation::Looked(self.files.clone(), activity))
    }

    /// Looks right before an accept.
    fn accept(&mut self) -> Action {
        self.step(Observation::Accepting(self.files.clone()))
    }

    fn verdict(&mut self, verdict: Verdict) -> Action {
        self.step(Observation::Judged(verdict, self.files.clone()))
    }

    fn touch(&mut self) -> &mut Self {
        self.files.launcher = Some(Identity::made_up(1, 1));
        self
    }

    fn replace_launcher(&mut self) -> &mut Self {
        self.files.launcher = Some(Identity::made_up(9, 0));
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
fn nothing_new_is_looked_for_more_rarely_while_idle() {
    let mut process = Process::new(start());
    assert_eq!(process.step(Observation::Tick(IDLE)), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(IDLE), process.wait(IDLE_INTERVAL));
    // A request wakes it up: the next look is due at once, for the last one is long ago.
    process.after(5 * SECOND);
    assert_eq!(process.step(Observation::Tick(IDLE)), process.wait(IDLE_INTERVAL - 5 * SECOND));
    assert_eq!(process.look(BUSY), process.wait(SECOND));
}

#[test]
fn a_process_known_by_its_launcher_looks_more_often() {
    let mut process = Process::new(AtStart { is_known_by_launcher: true, ..start() });
    assert_eq!(process.after(SECOND).look(IDLE), process.wait(IDLE_INTERVAL_BY_LAUNCHER));
}

#[test]
fn before_an_accept_an_old_look_does_not_count() {
    let mut process = Process::new(start());
    assert!(!process.decision.is_late(process.now + 9 * SECOND), "busy: the timer looks");
    process.after(SECOND).look(IDLE);
    assert!(!process.decision.is_late(process.now));
    assert!(process.decision.is_late(process.now + SECOND));
    assert!(!process.decision.is_touched(process.files.launcher));
    process.touch();
    assert!(process.decision.is_touched(process.files.launcher));
}

#[test]
fn a_touch_upgrades_to_what_runs_without_a_verdict() {
    let mut process = Process::new(start());
    assert_eq!(process.touch().accept(), Action::Upgrade);
    let key = process.files.key(Version::Installed);
    assert_eq!(process.decision.ready_key(), Some(&key));
}

#[test]
fn a_signal_is_as_good_as_a_touch() {
    let mut process = Process::new(start());
    let files = process.files.clone();
    assert_eq!(process.step(Observation::Asked(files)), Action::Upgrade);
}

#[test]
fn a_changed_program_or_configuration_is_judged_and_accepting_waits_a_second() {
    for change in [
        |files: &mut Snapshot| files.program = Some(Identity::made_up(3, 0)),
        |files: &mut Snapshot| files.others = vec![Some(Identity::made_up(4, 0))],
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
fn a_missing_program_is_no_change() {
    let mut process = Process::new(start());
    process.files.program = None;
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
}

#[test]
fn what_failed_is_judged_again_after_a_change_and_what_is_unknown_at_the_next_look() {
    let mut process = Process::new(start());
    process.files.program = Some(Identity::made_up(3, 0));
    let judge = process.judge(Version::Installed, Purpose::Upgrade);
    assert_eq!(process.after(SECOND).look(BUSY), judge);
    assert_eq!(process.verdict(unknown()), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(BUSY), judge);
    assert_eq!(process.verdict(failed()), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND), "nothing has changed");
    assert_eq!(process.touch().accept(), judge, "a touch is a change");
}

#[test]
fn what_arrives_is_judged_when_it_has_settled() {
    let mut process = Process::new(start());
    process.files.arriving = Some(Identity::made_up(5, 0));
    assert_eq!(process.after(SECOND).look(IDLE), process.wait(INTERVAL), "not the idle interval");
    process.files.arriving = Some(Identity::made_up(5, 1));
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
        "a touch asks again"
    );
}

#[test]
fn what_arrives_while_the_launcher_is_touched_falls_back_to_the_program() {
    for verdict in [failed(), unknown()] {
        let mut process = Process::new(start());
        process.files.arriving = Some(Identity::made_up(5, 0));
        let judge = process.judge(Version::Arriving, Purpose::UpgradeToEither);
        assert_eq!(process.touch().accept(), judge, "it need not settle");
        assert_eq!(process.verdict(verdict), Action::Upgrade, "what runs needs no verdict");
    }
}

#[test]
fn what_arrived_is_the_program_once_it_has_passed() {
    let mut process = Process::new(start());
    process.files.arriving = Some(Identity::made_up(5, 0));
    process.touch().accept();
    process.files.program = process.files.arriving.take();
    assert_eq!(process.verdict(Verdict::Passed), Action::Upgrade);
    assert_eq!(process.decision.ready_key(), Some(&process.files.key(Version::Installed)));
}

#[test]
fn a_configuration_that_changes_under_a_verdict_is_judged_too() {
    let mut process = Process::new(start());
    process.files.arriving = Some(Identity::made_up(5, 0));
    process.touch().accept();
    process.files.program = process.files.arriving.take();
    process.files.others = vec![Some(Identity::made_up(4, 0))];
    let judge = process.judge(Version::Installed, Purpose::Upgrade);
    assert_eq!(process.verdict(Verdict::Passed), judge);
}

#[test]
fn a_stand_in_judges_the_program_at_once() {
    let mut process = Process::new(AtStart { is_stand_in: true, judges_itself: true, ..start() });
    let judge = process.judge(Version::Installed, Purpose::Upgrade);
    assert_eq!(process.look(IDLE), judge);
    assert_eq!(process.verdict(failed()), process.wait(SECOND));
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
}

#[test]
fn what_runs_is_judged_once_for_the_record_and_nobody_waits() {
    let mut process = Process::new(AtStart { judges_itself: true, ..start() });
    let judge = process.judge(Version::Installed, Purpose::Record);
    assert_eq!(process.after(SECOND).look(BUSY), judge);
    assert!(!process.decision.holds(process.now));
    assert_eq!(process.verdict(Verdict::Passed), process.wait(SECOND), "no upgrade follows");
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
}

#[test]
fn an_upgrade_that_was_put_off_is_tried_again_when_nothing_is_in_flight() {
    let mut process = Process::new(start());
    process.touch().accept();
    for (attempt, pause) in RETRIES.into_iter().chain([RETRIES[3]]).enumerate() {
        assert_eq!(process.decision.attempts(process.now).0, attempt);
        process.step(Observation::PutOff(Obstacle::InFlight));
        assert_eq!(process.step(Observation::Tick(BUSY)), process.wait(QUIET_INTERVAL));
        assert_eq!(process.step(Observation::Tick(IDLE)), Action::Upgrade);
        assert_eq!(process.after(pause).step(Observation::Tick(BUSY)), Action::Upgrade);
    }
    assert_eq!(process.decision.attempts(process.now).1, 28 * SECOND);
    process.step(Observation::PutOff(Obstacle::BeingWritten));
    assert_eq!(process.after(QUIET_INTERVAL).step(Observation::Tick(BUSY)), Action::Upgrade);
}

#[test]
fn files_that_changed_after_the_verdict_are_looked_at_again() {
    let mut process = Process::new(start());
    process.touch().accept();
    assert_eq!(process.step(Observation::PutOff(Obstacle::Changed)), process.wait(Duration::ZERO));
    assert_eq!(process.decision.ready_key(), None);
    assert_eq!(process.look(BUSY), Action::Upgrade, "the same program as what runs");
}

#[test]
fn a_program_that_cannot_be_executed_is_judged_before_it_is_tried_again() {
    let mut process = Process::new(start());
    process.touch().accept();
    process.step(Observation::PutOff(Obstacle::NotExecuted));
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
    process.files.launcher = Some(Identity::made_up(1, 2));
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
    // A touch leaves it the same file; another file in its place does not.
    process.touch().accept();
    assert_eq!(process.decision.patience(), Some(quarter));
    process.step(Observation::PutOff(Obstacle::Changed));
    process.replace_launcher().accept();
    assert_eq!(process.decision.patience(), Some(UNREACHABLE));
    // The program after this one knows from which file the process came.
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
    assert_eq!(action, process.wait(SECOND), "it becomes no other version");
    assert_eq!(process.after(SECOND).look(BUSY), Action::Exit(ExitReason::LauncherReplaced));
    // While it is missing, nobody knows what will follow.
    let mut process = Process::new(AtStart { is_known_by_launcher: true, ..start() });
    process.replace_launcher().after(SECOND).look(BUSY);
    process.files.launcher = None;
    assert_eq!(process.after(SECOND).look(BUSY), process.wait(SECOND));
    process.files.launcher = Some(Identity::made_up(1, 0));
    assert_eq!(process.after(SECOND).look(BUSY), Action::Upgrade, "it is back: touched");
    // Other web servers keep sending requests.
    let mut process = Process::new(start());
    process.after(SECOND).look(BUSY);
    let action = process.replace_launcher().after(SECOND).look(BUSY);
    assert_eq!(action, Action::Upgrade);
}
