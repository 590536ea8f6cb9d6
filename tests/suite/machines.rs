//! A site on three machines: what holds across them, and what happens when one of the parts fails
//! (docs/several-machines.md).

mod blobs;
mod failover;
mod history;
mod quarantine;
mod versions;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use end_to_end::fixtures::three_nodes::ThreeNodes;
use end_to_end::http_client::{Request, Response, Upload};
use end_to_end::program::copy_executable;
use end_to_end::{is_long, process_table};
use serde_json::Value;

use crate::login::{Cookies, field};

/// How long HAProxy takes to notice that a node is gone (two checks of a second), and to connect elsewhere.
const NOTICED: Duration = Duration::from_secs(5);

/// How long a node takes to notice that PostgreSQL is back.
const RECOVERED: Duration = Duration::from_secs(3);

/// Where numbers are appended.
const NUMBERS: &str = "/tools/diagnostics/numbers";

/// Puts another program in the place of a node's.
fn replace(site: &ThreeNodes, node: &str, program: &Path) {
    let (installed, new) = (site.part(node).join("toolshed"), site.part(node).join("upload"));
    copy_executable(program, &new).expect("a copy");
    fs::rename(new, installed).expect("it is renamed");
}

/// Waits until the load balancer sends requests to a node, so that another one may end.
fn wait_until_balanced(site: &ThreeNodes, node: &str) {
    let deadline = Instant::now() + 4 * NOTICED;
    loop {
        let inspect = Request::get("/tools/inspect").header("Accept", "application/json");
        let inspected = inspect.send(site.address).expect("a response");
        let report: Value = serde_json::from_slice(&inspected.body).unwrap_or_default();
        let mut facts = report["program"].as_array().into_iter().flatten();
        if facts.any(|fact| fact["name"] == "Node" && fact["value"] == node) {
            return;
        }
        assert!(Instant::now() < deadline, "{node} gets no requests: {}", inspected.text());
        thread::sleep(Duration::from_millis(50));
    }
}

/// A browser whose requests go to any node.
#[derive(Clone)]
struct Browser<'a> {
    site: &'a ThreeNodes,
    cookies: Cookies,
    /// The visitor's address, as the load balancer names it.
    address: &'static str,
}

impl<'a> Browser<'a> {
    fn new(site: &'a ThreeNodes, address: &'static str) -> Self {
        Browser { site, cookies: Cookies::default(), address }
    }

    fn send(&mut self, node: &str, request: Request) -> Response {
        let request = self.cookies.add_to(request).header("Accept", "text/html");
        let request = request.header("X-Forwarded-For", self.address);
        let response = self.site.send_to(node, request).expect("a response");
        self.cookies.keep(&response);
        response
    }

    fn get(&mut self, node: &str, path: &str) -> Response {
        self.send(node, Request::get(path))
    }

    fn post(&mut self, node: &str, path: &str, fields: &[(&str, &str)]) -> Response {
        let body = fields.iter().map(|(name, value)| format!("{name}={value}"));
        let body = body.collect::<Vec<_>>().join("&").into_bytes();
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        self.send(node, Request::post(path, Upload::Text(body)).header(form.0, form.1))
    }

    /// Gets the form from one node and sends it to another.
    fn log_in(&mut self, [from, to]: [&str; 2], password: &str) -> Response {
        let page = self.get(from, "/login");
        assert_eq!(page.status, 200, "{}", page.text());
        let csrf = field(&page, "csrf");
        self.post(to, "/login", &[("csrf", &csrf), ("password", password)])
    }

    fn is_owner(&mut self, node: &str) -> bool {
        self.get(node, "/account").status == 200
    }
}

#[test]
fn machines_share_the_login_and_count_attempts_together() {
    let Some(site) = ThreeNodes::start(
        "machines::machines_share_the_login_and_count_attempts_together",
        "haproxy",
    )
    .expect("it starts") else {
        return;
    };
    let mut owner = Browser::new(&site, "203.0.113.1");
    assert_eq!(owner.log_in(["a", "b"], &site.password).status, 303);
    assert_eq!(["a", "b", "c"].map(|node| owner.is_owner(node)), [true; 3]);
    let page = owner.get("b", "/account");
    let csrf = field(&page, "csrf");
    assert_eq!(owner.clone().post("c", "/logout", &[("csrf", &csrf)]).status, 303);
    assert_eq!(["a", "b", "c"].map(|node| owner.is_owner(node)), [false; 3]);

    // Each attempt beyond the fifth doubles the wait. It is long enough when a slow machine cannot outlast it.
    let mut guesser = Browser::new(&site, "203.0.113.2");
    let mut nodes = ["a", "b", "c"].into_iter().cycle();
    let (mut tried, mut wait) = (0, 0);
    while wait < 8 {
        let response =
            guesser.log_in([nodes.next(), nodes.next()].map(|node| node.unwrap_or("a")), "wrong");
        match response.status {
            401 => tried += 1,
            429 => {
                let seconds = response.header("retry-after").and_then(|text| text.parse().ok());
                wait = seconds.expect("a time");
                thread::sleep(Duration::from_secs(if wait < 8 { wait } else { 0 }));
            }
            other => panic!("{other}: {}", response.text()),
        }
        assert!(tried <= 10, "each machine counts by itself");
    }
    for node in ["a", "b", "c"] {
        let page = guesser.get("a", "/login");
        assert_eq!(page.status, 200, "{}", page.text());
        let csrf = field(&page, "csrf");
        let fields = [("csrf", &*csrf), ("password", &*site.password)];
        assert_eq!(guesser.post(node, "/login", &fields).status, 429, "{node}");
    }
    site.check_threads();

    // The log and the page of an error say which machine it was.
    assert!(site.log("a").lines().all(|line| line.contains(" node=a ")), "{}", site.log("a"));
    a_machine_with_another_key_refuses(&site);
    a_machine_says_that_it_will_exit(&site);
}

fn a_machine_with_another_key_refuses(site: &ThreeNodes) {
    let key = site.part("c").join("data/secret.key");
    let original = fs::read(&key).expect("a key");
    for (wrong, sentence) in [
        (None, "secret.key is missing"),
        (Some([7; 64]), "secret.key is not the secret key of the other"),
    ] {
        site.end("c", libc::SIGKILL);
        fs::remove_file(&key).expect("it is removed");
        if let Some(wrong) = wrong {
            write_key(&key, &wrong);
        }
        site.start_again("c");
        let login = wait_for_response(site, "c", "/login");
        assert_eq!(login.status, 503, "{}", login.text());
        assert_eq!(site.send_to("c", Request::get("/")).expect("a response").status, 200);
        assert_eq!(site.send_to("c", Request::get("/readyz")).expect("a response").status, 503);
        assert!(site.log("c").contains(sentence), "{}", site.log("c"));
        assert_eq!(key.exists(), wrong.is_some(), "no second key is made");
        write_key(&key, &original);
        thread::sleep(Duration::from_millis(1100));
        site.wait_until_ready("c");
        assert_eq!(site.send_to("c", Request::get("/login")).expect("a response").status, 200);
    }
}

fn write_key(file: &Path, key: &[u8]) {
    let folder = fs::metadata(file.parent().expect("a folder")).expect("it is there");
    fs::write(file, key).expect("it is written");
    chown(file, Some(folder.uid()), None).expect("root may");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("root may");
}

fn wait_for_response(site: &ThreeNodes, node: &str, path: &str) -> Response {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match site.send_to(node, Request::get(path)) {
            Ok(response) => return response,
            Err(error) => assert!(Instant::now() < deadline, "{node}: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// For the load balancer (`drain_wait`).
fn a_machine_says_that_it_will_exit(site: &ThreeNodes) {
    let pid = site.pid("b");
    let asked = Instant::now();
    process_table::signal(pid, libc::SIGTERM).expect("it runs");
    while site.send_to("b", Request::get("/healthz")).expect("a response").status == 200 {
        assert!(asked.elapsed() < Duration::from_secs(2));
    }
    for (path, status) in [("/healthz", 503), ("/readyz", 503), ("/", 200)] {
        assert_eq!(
            site.send_to("b", Request::get(path)).expect("a response").status,
            status,
            "{path}"
        );
    }
    assert!(asked.elapsed() < Duration::from_secs(4), "that was within drain_wait");
    site.end("b", libc::SIGTERM);
    site.start_again("b");
    site.wait_until_ready("b");
}

#[test]
fn nginx_tries_the_next_machine() {
    let Some(site) =
        ThreeNodes::start("machines::nginx_tries_the_next_machine", "nginx").expect("it starts")
    else {
        return;
    };
    let mut load = Load::start(site.address);
    load.step("nothing fails while nothing happens", false, || {
        thread::sleep(Duration::from_secs(1));
    });
    load.step("a machine is killed", true, || {
        site.end("b", libc::SIGKILL);
        thread::sleep(Duration::from_secs(1));
    });
    load.step("without it", false, || thread::sleep(Duration::from_secs(7)));
    load.step("it comes back", false, || {
        site.start_again("b");
        site.wait_until_ready("b");
        thread::sleep(Duration::from_secs(1));
    });
    let (acknowledged, uncertain) = load.end();
    check_numbers(&site, &acknowledged, &uncertain);
}

#[test]
fn no_acknowledged_change_is_lost_or_made_twice() {
    let Some(site) =
        ThreeNodes::start("machines::no_acknowledged_change_is_lost_or_made_twice", "haproxy")
            .expect("it starts")
    else {
        return;
    };
    let mut load = Load::start(site.address);
    load.step("nothing fails while nothing happens", false, || {
        thread::sleep(Duration::from_secs(1))
    });
    load.step("a machine is killed", true, || {
        site.end("b", libc::SIGKILL);
        thread::sleep(NOTICED);
    });
    load.step("it comes back", false, || {
        site.start_again("b");
        site.wait_until_ready("b");
        thread::sleep(Duration::from_secs(2));
    });
    load.step("PostgreSQL crashes and starts again", true, || {
        site.end("db", libc::SIGQUIT);
        site.start_again("db");
        site.wait_for_database();
        thread::sleep(RECOVERED);
    });
    load.step("after that", false, || thread::sleep(Duration::from_secs(1)));
    if is_long() {
        load.step("a machine loses its network", true, || {
            site.set_link("c", false);
            thread::sleep(NOTICED);
        });
        load.step("while it is away", false, || thread::sleep(Duration::from_secs(20)));
        load.step("it comes back", false, || {
            site.set_link("c", true);
            site.wait_until_ready("c");
            thread::sleep(Duration::from_secs(3));
        });
        load.step("PostgreSQL is away for long", true, || {
            site.end("db", libc::SIGINT);
            thread::sleep(Duration::from_secs(20));
            for _ in 0..20 {
                let front = Request::get("/").send(site.address).expect("a response");
                assert_eq!(front.status, 200, "public pages stay");
            }
            site.start_again("db");
            site.wait_for_database();
            thread::sleep(NOTICED);
        });
    }
    // Each stops and starts as another version, while the others serve.
    let schema = "INSERT INTO migrations (schema, number, checksum, oldest, applied_at) \
                  SELECT schema, max(number) + 1, 'newer', max(oldest), 0 FROM migrations GROUP BY schema";
    for node in if is_long() { &["a", "b", "c"][..] } else { &["a"] } {
        load.step("a rolling upgrade", false, || {
            site.end(node, libc::SIGTERM);
            if *node == "a" {
                // The new version expands; the others know nothing of it.
                site.sql(schema);
            }
            site.start_again(node);
            site.wait_until_ready(node);
            thread::sleep(Duration::from_secs(3));
        });
    }
    site.check_threads();
    let (acknowledged, uncertain) = load.end();
    check_numbers(&site, &acknowledged, &uncertain);
}

/// Checks that every acknowledged number is stored, none twice, and no others.
fn check_numbers(site: &ThreeNodes, acknowledged: &BTreeSet<u64>, uncertain: &BTreeSet<u64>) {
    let stored = site.sql("SELECT number FROM diagnostics_numbers");
    let stored: Vec<u64> = stored.lines().map(|line| line.parse().expect("a number")).collect();
    let once: BTreeSet<u64> = stored.iter().copied().collect();
    assert_eq!(stored.len(), once.len(), "a number is there twice");
    let lost: Vec<_> = acknowledged.difference(&once).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let invented: Vec<_> =
        once.iter().filter(|it| !acknowledged.contains(it) && !uncertain.contains(it)).collect();
    assert!(invented.is_empty(), "{invented:?}");
    assert!(acknowledged.len() > 200, "{} changes", acknowledged.len());
}

/// Clients that append numbers through HAProxy, one number each at a time.
struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    steps: Steps,
}

struct Shared {
    site: SocketAddr,
    next: AtomicU64,
    is_over: AtomicBool,
    acknowledged: Mutex<BTreeSet<u64>>,
    failed: Mutex<Vec<Failure>>,
}

#[derive(Debug)]
struct Failure {
    number: u64,
    what: String,
    /// From when the request was sent.
    during: Range<Instant>,
}

impl Failure {
    fn overlaps(&self, other: &Range<Instant>) -> bool {
        self.during.start < other.end && other.start < self.during.end
    }
}

impl Load {
    const CLIENTS: usize = 6;

    fn start(site: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            site,
            next: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            failed: Mutex::default(),
        });
        let client = |_| {
            let shared = shared.clone();
            thread::spawn(move || shared.append_until_over())
        };
        let clients = (0..Self::CLIENTS).map(client).collect();
        Load { shared, clients, steps: Steps::default() }
    }

    fn step(&mut self, what: &'static str, may_fail: bool, act: impl FnOnce()) {
        self.steps.step(what, may_fail, act);
    }

    /// Checks when requests failed. Returns the numbers that are stored, and those that may be.
    fn end(self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        let failed = self.shared.failed.lock().expect("no panic");
        let unexplained = self.steps.unexplained(&failed);
        assert!(unexplained.is_empty(), "{unexplained:?}");
        let acknowledged = self.shared.acknowledged.lock().expect("no panic").clone();
        (acknowledged, failed.iter().map(|failure| failure.number).collect())
    }
}

/// What was done, whether requests may fail meanwhile, and from when to when.
#[derive(Default)]
struct Steps(Vec<(&'static str, bool, Range<Instant>)>);

impl Steps {
    fn step(&mut self, what: &'static str, may_fail: bool, act: impl FnOnce()) {
        let from = Instant::now();
        act();
        self.0.push((what, may_fail, from..Instant::now()));
    }

    /// Prints how many requests have failed in each step where they may; returns the others.
    fn unexplained(&self, failures: &[Failure]) -> Vec<String> {
        let mut unexplained: Vec<_> = failures.iter().collect();
        for (what, _, during) in self.0.iter().filter(|(_, may_fail, _)| *may_fail) {
            let (explained, rest): (Vec<_>, Vec<_>) =
                unexplained.into_iter().partition(|failure| failure.overlaps(during));
            let kinds: BTreeSet<_> = explained.iter().map(|failure| &failure.what).collect();
            eprintln!("{what}: {} failures {kinds:?}", explained.len());
            unexplained = rest;
        }
        let step_of = |failure: &Failure| {
            let mut steps = self.0.iter().filter(|(_, _, during)| failure.overlaps(during));
            steps.next().map_or("between the steps", |(what, _, _)| what)
        };
        let described = unexplained.into_iter().map(|it| format!("{}: {it:?}", step_of(it)));
        described.collect()
    }
}

impl Shared {
    fn append_until_over(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let request = Request::post(format!("{NUMBERS}?{number}"), Upload::Nothing);
            let sent = Instant::now();
            let what = match request.send(self.site) {
                Ok(response) if response.status == 200 => {
                    self.acknowledged.lock().expect("no panic").insert(number);
                    thread::sleep(Duration::from_millis(5));
                    continue;
                }
                Ok(response) => response.status.to_string(),
                Err(error) => error.to_string(),
            };
            let failure = Failure { number, what, during: sent..Instant::now() };
            self.failed.lock().expect("no panic").push(failure);
            thread::sleep(Duration::from_millis(50));
        }
    }
}
