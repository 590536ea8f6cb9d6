//! PostgreSQL moves to another host: two machines of a site, a primary and a standby, and clients that append to lists and
//! read them meanwhile. What they have seen is checked as in `history.rs`.

use std::fs;
use std::mem;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{App, Running, Setup, serve};
use end_to_end::http_client::{Request, Upload};
use end_to_end::is_long;
use postgres_fixture::{PASSWORD_IN_URL, Server, Shutdown, USER};

use super::Steps;
use super::history::{ALL_LISTS, LISTS, Recorder, parse};
use crate::login::{Browser, Cookies};

const PASSWORD: &str = "correct horse battery";

/// How long a machine takes to find the new primary, once that writes.
const FOUND: Duration = Duration::from_secs(2);

/// The same if the old one hangs: statements are given up after 35 s, and the host after the URL's 2 s to connect.
const FOUND_AFTER_A_HANG: Duration = Duration::from_secs(40);

/// A list that no client knows.
const PROBE: &str = "probe";

#[test]
fn when_postgresql_moves_to_another_host_nothing_acknowledged_is_lost() {
    let mut primary = Server::start();
    let mut standby = primary.standby();
    primary.replicate_synchronously();
    let site = Site::start([primary.port(), standby.port()]);
    let recorder = Recorder::new(site.machines.iter().map(|machine| machine.address).collect());
    let mut steps = Steps::default();
    thread::scope(|scope| {
        scope.spawn(|| recorder.run(scope));
        // Also if a step panics, so that no more operations are begun.
        let _over = recorder.over();
        steps.step("nothing fails while nothing happens", false, || {
            thread::sleep(Duration::from_secs(1));
        });
        steps.step("the primary dies", true, || {
            primary.kill();
            site.expect_refusals(["cannot be reached", "is read-only"]);
            standby.promote();
            site.wait_until_it_writes(FOUND);
        });
        change_roles(&mut steps, &site, &mut primary, &mut standby);
        steps.step("the primary is shut down", true, || {
            primary.stop(Shutdown::Fast);
            standby.promote();
            site.wait_until_it_writes(FOUND);
        });
        change_roles(&mut steps, &site, &mut primary, &mut standby);
        steps.step("the primary only reads", true, || {
            primary.set("default_transaction_read_only", "on");
            site.expect_refusals(["is read-only", "is read-only"]);
            standby.promote();
            site.wait_until_it_writes(FOUND);
        });
        // It is still there, and answers whoever asks it.
        steps.step("while it still reads", false, || thread::sleep(Duration::from_secs(2)));
        primary.stop(Shutdown::Fast);
        change_roles(&mut steps, &site, &mut primary, &mut standby);
        if is_long() {
            steps.step("the primary hangs", true, || {
                primary.hang();
                standby.promote();
                site.wait_until_it_writes(FOUND_AFTER_A_HANG);
                // Requests that wait for it.
                thread::sleep(FOUND_AFTER_A_HANG);
            });
            steps.step("while it still hangs", false, || thread::sleep(Duration::from_secs(10)));
            primary.kill();
            change_roles(&mut steps, &site, &mut primary, &mut standby);
        }
    });
    recorder.check(&steps, |_| {
        let mut lists = parse(&primary.psql(ALL_LISTS));
        lists.remove(PROBE).expect("it was written to");
        lists
    });
    let fences = primary.psql("SELECT count(*) FILTER (WHERE is_fence), count(*) FROM commits");
    println!("fences and all commits: {fences}");
    for machine in site.machines {
        assert_eq!(machine.check_tasks(), Ok(()));
        assert_eq!(machine.stop(), Ok(()));
    }
}

/// The primary has ended, and what was the standby writes. The former becomes a standby again.
fn change_roles(steps: &mut Steps, site: &Site, primary: &mut Server, standby: &mut Server) {
    mem::swap(primary, standby);
    steps.step("after that", false, || {
        standby.follow(primary);
        primary.replicate_synchronously();
        site.check_session();
        thread::sleep(Duration::from_secs(1));
    });
}

/// Two machines, and somebody who has logged in.
struct Site {
    machines: [Running; 2],
    session: Cookies,
}

impl Site {
    fn start(ports: [u16; 2]) -> Self {
        let [first, second] = ports;
        let url: &'static str = format!(
            "postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{first},127.0.0.1:{second}/postgres\
             ?target_session_attrs=read-write&connect_timeout=2"
        )
        .leak();
        let machines = ["a", "b"].map(|node| {
            let setup = Setup::new(App::Toolshed, "").with_variable("TOOLSHED_DATABASE", url);
            let setup = setup.with_variable("TOOLSHED_PUBLIC", "all,diagnostics");
            let setup = setup.with_variable("TOOLSHED_NODE", node);
            let setup = setup.with_variable("APP_PASSWORD", PASSWORD);
            serve::start(&setup.without_threads()).expect("it starts")
        });
        let mut browser = Browser::new(&machines[0]);
        assert_eq!(
            browser.log_in("/login", PASSWORD).status,
            303,
            "{}",
            machines[0].program_logs()
        );
        let session = browser.cookies;
        let [key, copy] =
            [0, 1].map(|machine: usize| machines[machine].folder().join("data/secret.key"));
        fs::copy(&key, &copy).expect("a copy");
        let owner = fs::metadata(key).expect("it is there");
        chown(&copy, Some(owner.uid()), Some(owner.gid())).expect("root may");
        fs::set_permissions(copy, fs::Permissions::from_mode(0o600)).expect("root may");
        let site = Site { machines, session };
        site.check_session();
        site
    }

    /// Checks that whoever has logged in before is the owner everywhere.
    fn check_session(&self) {
        for machine in &self.machines {
            let account = self.session.add_to(Request::get("/account"));
            let response = account.header("Accept", "text/html").send(machine.address);
            let response = response.expect("a response");
            assert_eq!(response.status, 200, "{}", machine.program_logs());
        }
    }

    /// Waits until each machine refuses to write, and says why in its log: what is wrong with each host.
    fn expect_refusals(&self, causes: [&str; 2]) {
        for machine in &self.machines {
            let logged = machine.program_logs().len();
            let started = Instant::now();
            let explained = || {
                let log = &machine.program_logs()[logged..];
                log.lines().any(|line| {
                    let both = line.split_once("; and ");
                    both.is_some_and(|(one, other)| {
                        one.contains(causes[0]) && other.contains(causes[1])
                            || one.contains(causes[1]) && other.contains(causes[0])
                    })
                })
            };
            loop {
                let response = self.append(machine);
                if response.status == 503 && explained() {
                    let text = response.text();
                    assert!(text.contains("data is unavailable"), "{text}");
                    assert!(!text.contains("PostgreSQL"), "{text}");
                    break;
                }
                assert!(started.elapsed() < FOUND, "{}", machine.program_logs());
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Waits until each machine writes.
    fn wait_until_it_writes(&self, patience: Duration) {
        let started = Instant::now();
        for machine in &self.machines {
            while self.append(machine).status != 200 {
                let logs = || machine.program_logs();
                assert!(started.elapsed() < patience, "it does not find the new one: {}", logs());
                thread::sleep(Duration::from_millis(10));
            }
        }
        println!("the new primary is found after {:?}", started.elapsed());
    }

    fn append(&self, machine: &Running) -> end_to_end::http_client::Response {
        let append = Request::post(format!("{LISTS}/{PROBE}?0"), Upload::Nothing);
        append.send(machine.address).expect("a response")
    }
}
