//! Several processes on one socket: a worker that exits is replaced, old versions are upgraded, and no request is lost
//! meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{App, Folder, Setup};
use end_to_end::http_client::{Checksum, Request, Upload, for_each_piece};
use end_to_end::process_table;
use end_to_end::program::{Program, Start};
use free_port::FreePort;

/// More than anything here takes, even on a machine that is busy with other tests.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A supervisor with its workers.
struct Site {
    supervisor: Program,
    address: SocketAddr,
    program: PathBuf,
    folder: Folder,
}

impl Site {
    fn start(workers: &str) -> Self {
        Site::start_with(workers, None)
    }

    /// With an environment variable for supervisor and workers.
    fn start_with(workers: &str, variable: Option<(&str, &str)>) -> Self {
        let folder = Folder::new(&Setup::new(App::Toolshed, "")).expect("a folder");
        let program = folder.path().join("bin/toolshed");
        let port = FreePort::reserve().expect("a port");
        let address = port.address();
        let start = Start::new(&program, folder.path().join("run/app.log"));
        let start = match variable {
            Some((name, value)) => start.variable(name, value),
            None => start,
        };
        let mut supervisor = start
            .folder(folder.path())
            .argument("serve")
            .argument("--listen")
            .argument(address.to_string())
            .argument("--workers")
            .argument(workers)
            .variable("TOOLSHED_PUBLIC", "all")
            .start()
            .expect("the supervisor starts");
        supervisor.wait_until("a worker answers", || responds(address)).expect("the site answers");
        Site { supervisor, address, program, folder }
    }

    fn workers(&self) -> BTreeSet<u32> {
        children(self.supervisor.pid())
    }

    fn wait_for(&mut self, what: &str, mut ready: impl FnMut(&BTreeSet<u32>) -> bool) {
        let pid = self.supervisor.pid();
        self.supervisor.wait_until(what, || ready(&children(pid))).expect(what);
    }

    /// Sends requests from four clients during `work`. Returns how many there were; panics if one failed.
    fn under_load(&mut self, work: impl FnOnce(&mut Self)) -> u32 {
        let (over, answered) = (AtomicBool::new(false), AtomicU32::new(0));
        let address = self.address;
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let response = Request::get("/healthz").send(address).expect("a response");
                        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            work(self);
            over.store(true, Ordering::Relaxed);
        });
        answered.into_inner()
    }
}

fn responds(address: SocketAddr) -> bool {
    Request::get("/healthz").send(address).is_ok_and(|response| response.status == 200)
}

/// The children of a process, without zombies.
fn children(parent: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|number| {
            let Ok(stat) = fs::read_to_string(format!("/proc/{number}/stat")) else { return false };
            let Some((_, rest)) = stat.rsplit_once(')') else { return false };
            let mut fields = rest.split_ascii_whitespace();
            fields.next() != Some("Z") && fields.next() == Some(parent.to_string().as_str())
        })
        .collect()
}

#[test]
fn a_dead_worker_is_replaced_while_the_others_serve() {
    let mut site = Site::start("2");
    site.wait_for("two workers", |workers| workers.len() == 2);
    let before = site.workers();
    let victim = *before.first().expect("a worker");
    // Stop it first, so that it accepts no connection that would be lost.
    process_table::signal(victim, libc::SIGSTOP).expect("it runs");
    process_table::signal(victim, libc::SIGKILL).expect("it runs");
    site.wait_for("another one", |workers| workers.len() == 2 && !workers.contains(&victim));
    assert!(responds(site.address));
    let output = site.supervisor.output();
    assert!(output.contains("Worker exited") && output.contains("signal: 9"), "{output}");
    assert_eq!(site.supervisor.terminate().expect("it ends").code(), Some(0));
}

/// The supervisor would only start others.
#[test]
fn idle_workers_do_not_exit() {
    let mut site = Site::start_with("2", Some(("TOOLSHED_IDLE_EXIT", "1")));
    site.wait_for("two workers", |workers| workers.len() == 2);
    let before = site.workers();
    // A process that a web server has spawned exits within two seconds.
    thread::sleep(Duration::from_secs(4));
    assert_eq!(site.workers(), before);
    let output = site.supervisor.output();
    assert!(!output.contains("idle_exit") && !output.contains("Worker exited"), "{output}");
    assert_eq!(site.supervisor.terminate().expect("it ends").code(), Some(0));
}

#[test]
fn sighup_replaces_all_workers_without_losing_a_request() {
    let mut site = Site::start("2");
    site.wait_for("two workers", |workers| workers.len() == 2);
    let before = site.workers();
    let answered = site.under_load(|site| {
        for _ in 0..3 {
            let old = site.workers();
            site.supervisor.signal(libc::SIGHUP).expect("it runs");
            site.wait_for("two others", |now| now.len() == 2 && now.is_disjoint(&old));
        }
    });
    println!("{answered} requests were answered during three upgrades.");
    assert!(answered > 0);
    assert!(site.workers().is_disjoint(&before));
    assert_eq!(site.supervisor.terminate().expect("it ends").code(), Some(0));
}

/// Otherwise the workers that were replaced first would keep the version in the middle.
#[test]
fn a_second_sighup_during_a_rolling_upgrade_replaces_all_workers_again() {
    let mut site = Site::start("2");
    site.wait_for("two workers", |workers| workers.len() == 2);
    let before = site.workers();
    let middle = site.folder.path().join("middle");
    fs::copy(&site.program, &middle).expect("it is there");
    let newest = site.folder.path().join("newest");
    fs::rename(&site.program, &newest).expect("it is there");
    let slow = format!("#!/bin/sh\nsleep 1\nexec '{}' \"$@\"\n", middle.display());
    end_to_end::program::write_executable(&site.program, slow.as_bytes()).expect("a slow one");
    site.supervisor.signal(libc::SIGHUP).expect("it runs");
    site.wait_for("the first slow one", |now| !now.is_subset(&before));
    fs::rename(&newest, &site.program).expect("it is put back");
    site.supervisor.signal(libc::SIGHUP).expect("it runs");
    let executes = |worker: &u32| fs::read_link(format!("/proc/{worker}/exe")).unwrap_or_default();
    let program = site.program.clone();
    site.wait_for("two of the newest version", |now| {
        now.len() == 2
            && now.is_disjoint(&before)
            && now.iter().all(|worker| executes(worker) == program)
    });
    assert_eq!(site.supervisor.terminate().expect("it ends").code(), Some(0));
}

#[test]
fn a_touch_upgrades_each_worker_in_place_without_losing_a_request() {
    let mut site = Site::start("2");
    site.wait_for("two workers", |workers| workers.len() == 2);
    let before = site.workers();
    let log = site.folder.path().join("run/app.log");
    let upgraded = |worker: &u32| {
        let output = fs::read_to_string(&log).unwrap_or_default();
        let of_it = format!(" {worker}  INFO Upgraded; serving");
        output.lines().any(|line| line.contains(&of_it))
    };
    site.under_load(|site| {
        let file = fs::File::open(&site.program).expect("it is there");
        file.set_modified(std::time::SystemTime::now()).expect("the file is ours");
        site.wait_for("both are upgraded", |now| now.iter().all(upgraded));
    });
    assert_eq!(site.workers(), before);
    assert_eq!(site.supervisor.terminate().expect("it ends").code(), Some(0));
}

#[test]
fn a_broken_program_does_not_replace_serving_workers() {
    let mut site = Site::start("2");
    site.wait_for("two workers", |workers| workers.len() == 2);
    let before = site.workers();
    let saved = site.folder.path().join("saved");
    for (content, expected) in [
        (&b"#!/no/such/interpreter\n"[..], "Cannot start a worker"),
        (b"#!/bin/sh\nexit 3\n", "exited before it served (exit status: 3)"),
    ] {
        fs::rename(&site.program, &saved).expect("it is there");
        end_to_end::program::write_executable(&site.program, content).expect("a broken one");
        site.supervisor.signal(libc::SIGHUP).expect("it runs");
        let pid = site.supervisor.pid();
        let log = site.folder.path().join("run/app.log");
        site.supervisor
            .wait_until("the log says why", || {
                fs::read_to_string(&log).is_ok_and(|output| output.contains(expected))
            })
            .expect(expected);
        site.supervisor
            .wait_until("the broken one is gone", || children(pid) == before)
            .expect("the old ones stay");
        assert!(responds(site.address));
        fs::rename(&saved, &site.program).expect("it is put back");
    }
    site.supervisor.signal(libc::SIGHUP).expect("it runs");
    site.wait_for("two others", |now| now.len() == 2 && now.is_disjoint(&before));
    assert_eq!(site.supervisor.terminate().expect("it ends").code(), Some(0));
}

#[test]
fn waiting_connections_start_another_worker_up_to_the_maximum() {
    let mut site = Site::start("1-2");
    let first = *site.workers().first().expect("a worker");
    process_table::signal(first, libc::SIGSTOP).expect("it runs");
    // The connection waits in the backlog for a worker.
    let response = Request::get("/healthz").send(site.address).expect("another worker answers");
    assert_eq!(response.status, 200);
    site.wait_for("two workers", |workers| workers.len() == 2);
    process_table::signal(first, libc::SIGCONT).expect("it runs");
    assert_eq!(site.supervisor.terminate().expect("it ends").code(), Some(0));
}

#[test]
fn sigterm_completes_requests_in_flight_and_ends_all_workers() {
    let mut site = Site::start("2");
    site.wait_for("two workers", |workers| workers.len() == 2);
    let workers = site.workers();
    // A request in flight when the signal arrives: half of its body has been sent.
    let request = Request::post("/tools/checksum?alg=sha256", Upload::Counted(2 << 20));
    let mut expected = Checksum::default();
    (0..2).for_each(|_| for_each_piece(1 << 20, |piece| expected.update(piece)));
    let upload = request.begin_upload(site.address, 1 << 20).expect("half an upload");
    site.supervisor.signal(libc::SIGTERM).expect("it runs");
    site.supervisor
        .wait_until("new connections are refused", || !responds(site.address))
        .expect("the socket closes");
    let response = upload.finish_upload(1 << 20).expect("the rest is read and answered");
    assert!(response.text().contains(&expected.hex()), "{}", response.text());
    assert_eq!(site.supervisor.wait(TIMEOUT).expect("it ends").code(), Some(0));
    for worker in workers {
        assert!(!std::path::Path::new(&format!("/proc/{worker}")).exists(), "{worker} still runs");
    }
}

#[test]
fn load_balancers_learn_of_an_exit_before_it_and_nothing_of_an_upgrade() {
    for workers in ["1", "2"] {
        let mut site = Site::start_with(workers, Some(("TOOLSHED_DRAIN_WAIT", "60 s")));
        let health = |path| Request::get(path).send(site.address).map(|response| response.status);
        if workers == "2" {
            site.supervisor.signal(libc::SIGHUP).expect("it runs");
            for _ in 0..20 {
                assert_eq!(health("/healthz").expect("a response"), 200);
                thread::sleep(Duration::from_millis(50));
            }
        }
        site.supervisor.signal(libc::SIGTERM).expect("it runs");
        let asked = Instant::now();
        // Each worker learns of it, and none stops to serve.
        let mut draining = 0;
        while draining < 20 {
            let status = health("/healthz").expect("a response");
            draining = if status == 503 { draining + 1 } else { 0 };
            assert_eq!(health("/").expect("a response"), 200);
            assert!(asked.elapsed() < TIMEOUT);
        }
        assert_eq!(health("/readyz").expect("a response"), 503);
        site.supervisor.signal(libc::SIGTERM).expect("it runs");
        let status = site.supervisor.wait(TIMEOUT).expect("a second signal ends the wait");
        assert_eq!(status.code(), Some(0), "{}", site.supervisor.output());
    }
}

#[test]
fn workers_exit_when_their_supervisor_is_killed() {
    let mut site = Site::start("2");
    site.wait_for("two workers", |workers| workers.len() == 2);
    let workers = site.workers();
    site.supervisor.signal(libc::SIGKILL).expect("it runs");
    site.supervisor.wait(TIMEOUT).expect("it is dead");
    let started = Instant::now();
    let folder = site.folder.path().to_owned();
    while !process_table::running_from(&folder).is_empty() {
        assert!(started.elapsed() < TIMEOUT, "{workers:?} still run without a supervisor");
        thread::sleep(Duration::from_millis(20));
    }
}
