//! A tool that crashes repeatedly, now on one machine and now on another.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::three_nodes::ThreeNodes;
use end_to_end::http_client::{Request, Upload};

use super::replace;

const TOOL: &str = "/tools/diagnostics";

/// How long a machine may take to fetch a crash on another one: each looks every three seconds, after a restart too.
const FETCHED: Duration = Duration::from_secs(15);

/// More than a machine takes between two looks.
const SEVERAL_LOOKS: Duration = Duration::from_secs(7);

#[test]
fn crashes_on_all_machines_with_the_same_program_count_together() {
    let Some(site) = ThreeNodes::start(
        "machines::quarantine::crashes_on_all_machines_with_the_same_program_count_together",
        "haproxy",
    )
    .expect("it starts") else {
        return;
    };
    make_another_version(&site, "c");
    crash(&site, "c");
    crash(&site, "a");
    crash(&site, "a");
    assert_eq!(status(&site, "a", TOOL), 200, "twice is not enough");
    crash(&site, "b");
    wait_until_quarantined(&site, "a");
    wait_until_quarantined(&site, "b");
    for (node, places) in [("a", "2 on this machine, 1 on b"), ("b", "1 on this machine, 2 on a")] {
        let log = site.log(node);
        assert!(log.contains(&format!("3 crashes within 30 s ({places}). ")), "{log}");
        let elsewhere = fs::metadata(site.part(node).join("data/crashes.elsewhere"));
        assert_eq!(elsewhere.expect("it was fetched").mode() & 0o7777, 0o600);
        assert_eq!(status(&site, node, "/tools/checksum"), 200, "other tools go on");
    }

    // What the other version does is no reason to close this one.
    let started = Instant::now();
    while started.elapsed() < SEVERAL_LOOKS {
        assert_eq!(status(&site, "c", TOOL), 200);
        thread::sleep(Duration::from_millis(200));
    }
    assert!(!site.part("c").join("data/crashes.elsewhere").exists());
    let published =
        "SELECT node, count(*), count(DISTINCT program) FROM crashes GROUP BY node ORDER BY node";
    assert_eq!(site.sql(published), "a|2|1\nb|1|1\nc|1|1");
    assert_eq!(site.sql("SELECT count(DISTINCT program) FROM crashes"), "2");
    site.check_threads();

    without_the_database_each_machine_quarantines_by_itself(&site);
}

fn without_the_database_each_machine_quarantines_by_itself(site: &ThreeNodes) {
    let failed = || site.log("c").matches("Crashes are not shared").count();
    assert_eq!(failed(), 0, "{}", site.log("c"));
    site.end("db", libc::SIGQUIT);
    let started = Instant::now();
    while started.elapsed() < SEVERAL_LOOKS {
        let sent = Instant::now();
        assert_eq!(status(site, "c", TOOL), 200);
        assert!(sent.elapsed() < Duration::from_secs(1), "a request waits for the database");
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(failed(), 1, "{}", site.log("c"));
    while status(site, "c", TOOL) == 200 {
        crash(site, "c");
        thread::sleep(Duration::from_millis(1200));
    }
    assert!(site.log("c").contains("3 crashes within 30 s. "), "{}", site.log("c"));

    let logged = site.log("c").len();
    site.start_again("db");
    site.wait_for_database();
    let deadline = Instant::now() + FETCHED;
    while !site.log("c")[logged..].contains("Crashes are shared with the other machines again.") {
        assert!(Instant::now() < deadline, "{}", site.log("c"));
        status(site, "c", TOOL);
        thread::sleep(Duration::from_millis(200));
    }
    let published = "SELECT count(*) > 2 FROM crashes WHERE node = 'c'";
    assert_eq!(site.sql(published), "t", "what it could not publish, it has published");
}

/// Gives a node a program with other content that does the same.
fn make_another_version(site: &ThreeNodes, node: &str) {
    site.end(node, libc::SIGKILL);
    let mut content = fs::read(site.part(node).join("toolshed")).expect("a program");
    content.extend_from_slice(b"another version");
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("toolshed");
    fs::write(&other, content).expect("it is written");
    replace(site, node, &other);
    site.start_again(node);
    site.wait_until_ready(node);
}

fn crash(site: &ThreeNodes, node: &str) {
    let crash = Request::post(format!("{TOOL}/crash?how=segv&runs=inline"), Upload::Nothing);
    let response = site.send_to(node, crash).expect("a response");
    assert_eq!(response.status, 500, "{node}: {}", response.text());
}

fn status(site: &ThreeNodes, node: &str, path: &str) -> u16 {
    site.send_to(node, Request::get(path)).expect("a response").status
}

fn wait_until_quarantined(site: &ThreeNodes, node: &str) {
    let deadline = Instant::now() + FETCHED;
    loop {
        let response = site.send_to(node, Request::get(TOOL)).expect("a response");
        if response.status == 503 {
            let seconds: u64 =
                response.header("retry-after").expect("a time").parse().expect("a number");
            assert!((30..=60).contains(&seconds), "{seconds}");
            assert!(response.text().contains("after repeated crashes"), "{}", response.text());
            return;
        }
        assert_eq!(response.status, 200, "{}", response.text());
        assert!(Instant::now() < deadline, "{node}: {}", site.log(node));
        thread::sleep(Duration::from_millis(100));
    }
}
