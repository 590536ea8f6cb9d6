//! Clients append to lists and read them through HAProxy while one part after the other fails. Then all that they have
//! seen is compared with what may be (`history.rs` of the library).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::three_nodes::ThreeNodes;
use end_to_end::history::{Action, Operation, Outcome, check};
use end_to_end::http_client::{Request, Upload};
use end_to_end::is_long;
use end_to_end::process_table::signal;

use super::{Failure, NOTICED, RECOVERED, Steps};

pub(super) const LISTS: &str = "/tools/diagnostics/lists";

pub(super) const ALL_LISTS: &str =
    "SELECT name, number FROM diagnostics_lists ORDER BY name, position";

/// Between the beginnings of two operations, whether or not those before have returned: while the site is slow, as many
/// are begun as ever.
const PACE: Duration = Duration::from_millis(5);

/// How many operations are in flight at most. Beyond that, beginnings are made up for later.
const MAX_IN_FLIGHT: usize = 1000;

/// How many operations go to the same lists; then new ones are begun, so that reads stay short.
const OPERATIONS_A_LIST: u64 = 400;

/// How many lists are in use at a time: few, so that appends are in conflict.
const LISTS_AT_A_TIME: u64 = 2;

/// How long the long variant goes on.
const LONG: Duration = Duration::from_secs(600);

#[test]
fn what_clients_see_while_parts_fail_is_what_one_machine_could_have_shown() {
    let Some(site) = ThreeNodes::start(
        "machines::history::what_clients_see_while_parts_fail_is_what_one_machine_could_have_shown",
        "haproxy",
    )
    .expect("it starts") else {
        return;
    };
    let recorder = Recorder::new(vec![site.address]);
    let mut steps = Steps::default();
    thread::scope(|scope| {
        scope.spawn(|| recorder.run(scope));
        // Also if a step panics, so that no more operations are begun.
        let _over = recorder.over();
        steps.step("nothing fails while nothing happens", false, || {
            thread::sleep(Duration::from_secs(2));
        });
        let nodes = ["b", "c", "a"];
        for round in 0.. {
            let node = nodes[round % nodes.len()];
            let other = nodes[(round + 1) % nodes.len()];
            fail(&mut steps, &site, node, other);
            if !is_long() || recorder.start.elapsed() > LONG {
                break;
            }
        }
    });
    recorder.check(&steps, |operations| last_lists(&site, operations));
    site.check_threads();
}

/// Lets one part after the other fail, each with all others there.
fn fail(steps: &mut Steps, site: &ThreeNodes, node: &str, other: &str) {
    let calm = |steps: &mut Steps| {
        steps.step("while all is well", false, || thread::sleep(Duration::from_secs(2)));
    };
    steps.step("a machine is killed", true, || {
        site.end(node, libc::SIGKILL);
        thread::sleep(NOTICED);
    });
    steps.step("it comes back", false, || {
        site.start_again(node);
        site.wait_until_ready(node);
    });
    steps.step("a machine loses its network", true, || {
        site.set_link(other, false);
        thread::sleep(NOTICED);
    });
    steps.step("it is back", true, || {
        site.set_link(other, true);
        site.wait_until_ready(other);
        thread::sleep(RECOVERED);
    });
    steps.step("PostgreSQL restarts", true, || {
        site.end("db", libc::SIGINT);
        site.start_again("db");
        site.wait_for_database();
        thread::sleep(RECOVERED);
    });
    calm(steps);
    if is_long() {
        steps.step("PostgreSQL crashes and starts again", true, || {
            site.end("db", libc::SIGQUIT);
            site.start_again("db");
            site.wait_for_database();
            thread::sleep(RECOVERED);
        });
        calm(steps);
        steps.step("a machine hangs", true, || {
            signal(site.pid(node), libc::SIGSTOP).expect("it runs");
            thread::sleep(NOTICED + Duration::from_secs(10));
            signal(site.pid(node), libc::SIGCONT).expect("it runs");
            site.wait_until_ready(node);
            thread::sleep(RECOVERED);
        });
        calm(steps);
    }
}

/// Begins operations at a fixed rate, and keeps what they have seen.
pub(super) struct Recorder {
    /// Of the site's machines, or of the load balancer.
    addresses: Vec<SocketAddr>,
    start: Instant,
    in_flight: AtomicUsize,
    is_over: AtomicBool,
    operations: Mutex<Vec<Operation>>,
}

/// Lets no more operations begin when it is dropped.
pub(super) struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Recorder {
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        Recorder {
            addresses,
            start: Instant::now(),
            in_flight: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            operations: Mutex::default(),
        }
    }

    pub(super) fn over(&self) -> Over<'_> {
        Over(&self.is_over)
    }

    pub(super) fn run<'s>(&'s self, scope: &'s thread::Scope<'s, '_>) {
        for number in 0.. {
            let due = self.start + PACE * number;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            while self.in_flight.load(Ordering::Relaxed) >= MAX_IN_FLIGHT {
                thread::sleep(PACE);
            }
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            scope.spawn(move || {
                let operation = self.operate(number.into());
                self.operations.lock().expect("no panic").push(operation);
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    fn operate(&self, number: u64) -> Operation {
        let list = format!("{}-{}", number / OPERATIONS_A_LIST, number % LISTS_AT_A_TIME);
        let target = format!("{LISTS}/{list}");
        let (action, request) = match number / LISTS_AT_A_TIME % 2 {
            0 => (Action::Read, Request::get(target)),
            _ => {
                let append = Request::post(format!("{target}?{number}"), Upload::Nothing);
                (Action::Append(number), append)
            }
        };
        let called = self.start.elapsed();
        // Each kind of operation on each list goes to all of them.
        let address = number / LISTS_AT_A_TIME / 2 % self.addresses.len() as u64;
        let sent = request.send(self.addresses[address as usize]);
        let returned = self.start.elapsed();
        let outcome = match (sent, action) {
            (Ok(response), Action::Append(_)) if response.status == 200 => Outcome::Appended,
            (Ok(response), Action::Read) if response.status == 200 => Outcome::Was(
                response.text().lines().map(|line| line.parse().expect("a number")).collect(),
            ),
            (Ok(response), _) => Outcome::Unknown(response.status.to_string()),
            (Err(error), _) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Outcome::Failed(error.to_string())
            }
            (Err(error), _) => Outcome::Unknown(error.to_string()),
        };
        Operation { list, action, called, returned, outcome }
    }

    /// Checks what they have seen, and when they failed. `last` returns the lists at the end.
    pub(super) fn check(
        self,
        steps: &Steps,
        last: impl FnOnce(&[Operation]) -> BTreeMap<String, Vec<u64>>,
    ) {
        let mut operations = self.operations.into_inner().expect("no panic");
        operations.sort_by_key(|operation| operation.called);
        let last = last(&operations);
        let mut problems = Vec::new();
        for (list, anomaly) in check(&operations, &last) {
            problems.push(format!("{list}: {anomaly}"));
        }
        let failures = operations.iter().filter_map(|operation| failure(operation, self.start));
        let failures: Vec<_> = failures.collect();
        problems.extend(steps.unexplained(&failures));
        report(&operations, &failures);
        if !problems.is_empty() {
            let file = write(&operations, &last);
            problems.truncate(20);
            panic!("{}\nThe whole history is in {file}.", problems.join("\n"));
        }
        assert!(operations.len() > 300, "{} operations", operations.len());
    }
}

/// Returns the lists as each node shows them now, which is the same.
fn last_lists(site: &ThreeNodes, operations: &[Operation]) -> BTreeMap<String, Vec<u64>> {
    let lists = parse(&site.sql(ALL_LISTS));
    let last = operations.last().map_or("0-0", |operation| &operation.list);
    let expected: String =
        lists.get(last).into_iter().flatten().map(|number| format!("{number}\n")).collect();
    for node in ["a", "b", "c"] {
        let read = site.send_to(node, Request::get(format!("{LISTS}/{last}"))).expect("a response");
        assert_eq!(read.text(), expected, "{node}");
    }
    lists
}

/// Returns the lists of the rows of [`ALL_LISTS`].
pub(super) fn parse(rows: &str) -> BTreeMap<String, Vec<u64>> {
    let mut lists: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in rows.lines() {
        let (name, number) = row.split_once('|').expect("two columns");
        lists.entry(name.to_owned()).or_default().push(number.parse().expect("a number"));
    }
    lists
}

fn failure(operation: &Operation, start: Instant) -> Option<Failure> {
    let (Outcome::Unknown(what) | Outcome::Failed(what)) = &operation.outcome else { return None };
    Some(Failure {
        number: match operation.action {
            Action::Append(number) => number,
            Action::Read => 0,
        },
        what: what.clone(),
        during: start + operation.called..start + operation.returned,
    })
}

/// Prints what has happened, in numbers.
fn report(operations: &[Operation], failures: &[Failure]) {
    let count = |is: fn(&Outcome) -> bool| operations.iter().filter(|it| is(&it.outcome)).count();
    let lists: BTreeSet<_> = operations.iter().map(|operation| &operation.list).collect();
    let mut times: Vec<_> = operations.iter().map(|it| it.returned - it.called).collect();
    times.sort_unstable();
    let percent = |percent: usize| times.get(times.len() * percent / 100).copied();
    println!(
        "{} operations on {} lists: {} appended, {} read, {} not acknowledged; median {:?}, 99 % {:?}, longest {:?}",
        operations.len(),
        lists.len(),
        count(|outcome| matches!(outcome, Outcome::Appended)),
        count(|outcome| matches!(outcome, Outcome::Was(_))),
        failures.len(),
        percent(50).unwrap_or_default(),
        percent(99).unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
    );
}

/// Writes the whole history to a file, and returns its path.
fn write(operations: &[Operation], last: &BTreeMap<String, Vec<u64>>) -> String {
    let mut text = "# called and returned in µs; then the lists at the end\n".to_owned();
    for operation in operations {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{operation}");
    }
    for (list, numbers) in last {
        let _ = writeln!(text, "{list} {numbers:?}");
    }
    let file = std::env::temp_dir().join(format!("history-{}.txt", std::process::id()));
    fs::write(&file, text).expect("it is written");
    file.display().to_string()
}
