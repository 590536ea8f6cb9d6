//! A rolling upgrade with real programs: the one that ships, the next one, whose migration expands a table, and the one
//! after that, which contracts it (tests/later-versions builds them). Two nodes, under load, with a session.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::three_nodes::ThreeNodes;
use end_to_end::http_client::{Request, Upload};
use end_to_end::program::{find, find_version};

use super::{Browser, Load, NOTICED, NUMBERS, replace, wait_until_balanced};

/// Numbers that the load does not reach.
const OWN: u64 = 1 << 40;

#[test]
fn two_versions_serve_one_database_until_one_contracts() {
    let Some(site) = ThreeNodes::start(
        "machines::versions::two_versions_serve_one_database_until_one_contracts",
        "haproxy",
    )
    .expect("it starts") else {
        return;
    };
    let [shipped, next, contracting] =
        [find("toolshed"), find_version("next"), find_version("contracting")];
    let mut owner = Browser::new(&site, "203.0.113.1");
    assert_eq!(owner.log_in(["a", "b"], &site.password).status, 303);
    let mut own = OWN..;
    let mut load = Load::start(site.address);
    load.step("with two machines", false, || {
        site.end("c", libc::SIGTERM);
        thread::sleep(NOTICED);
    });
    let mut check = |nodes: &[&str]| check_nodes(&site, nodes, &mut owner, &mut own);
    check(&["a", "b"]);

    load.step("one expands", false, || upgrade(&site, "a", &next));
    assert_eq!(columns(&site), "number,text");
    load.step("both versions serve", false, || check(&["a", "b"]));
    load.step("back to the older one", false, || upgrade(&site, "a", &shipped));
    load.step("the older one on expanded tables", false, || check(&["a", "b"]));
    load.step("forward again", false, || upgrade(&site, "a", &next));
    load.step("the other one, too", false, || upgrade(&site, "b", &next));
    load.step("all expanded", false, || check(&["a", "b"]));

    // As long as an older one runs, nothing may contract. So the last one that runs is upgraded alone.
    load.step("one ends", false, || {
        site.end("b", libc::SIGTERM);
        thread::sleep(NOTICED);
    });
    load.step("the last one contracts", true, || {
        upgrade(&site, "a", &contracting);
        thread::sleep(NOTICED);
    });
    assert_eq!(columns(&site), "text");
    load.step("contracted", false, || check(&["a"]));
    for (version, name) in [(&next, "the next version"), (&shipped, "the one before")] {
        load.step("an older one starts", false, || {
            replace(&site, "b", version);
            site.start_again("b");
            check_refusal(&site, name);
            site.end("b", libc::SIGTERM);
        });
    }
    load.step("the other one contracts", false, || {
        replace(&site, "b", &contracting);
        site.start_again("b");
        site.wait_until_ready("b");
        check(&["a", "b"]);
    });
    let (acknowledged, uncertain) = load.end();
    let stored = numbers(&site, "b");
    let once: BTreeSet<u64> = stored.iter().copied().collect();
    assert_eq!(stored.len(), once.len(), "a number is there twice");
    let lost: Vec<_> = acknowledged.difference(&once).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let is_known = |it: &u64| *it >= OWN || acknowledged.contains(it) || uncertain.contains(it);
    assert!(once.iter().all(is_known), "numbers that nobody sent");
    assert!(acknowledged.len() > 500, "{} changes", acknowledged.len());
    site.check_threads();
}

/// Ends a node's program as an owner does, and starts another version.
fn upgrade(site: &ThreeNodes, node: &str, program: &Path) {
    site.end(node, libc::SIGTERM);
    replace(site, node, program);
    site.start_again(node);
    site.wait_until_ready(node);
    wait_until_balanced(site, node);
}

/// Each node stores a number, which all of them list, and all know the session.
fn check_nodes(
    site: &ThreeNodes,
    nodes: &[&str],
    owner: &mut Browser<'_>,
    own: &mut impl Iterator<Item = u64>,
) {
    for &node in nodes {
        assert!(owner.is_owner(node), "{node}");
        let number = own.next().expect("there are more");
        let request = Request::post(format!("{NUMBERS}?{number}"), Upload::Nothing);
        let response = site.send_to(node, request).expect("a response");
        assert_eq!(response.status, 200, "{node}: {}", response.text());
        for &other in nodes {
            let listed = numbers(site, other);
            assert!((OWN..=number).all(|it| listed.contains(&it)), "{other}: {number}");
        }
    }
}

fn numbers(site: &ThreeNodes, node: &str) -> Vec<u64> {
    let response = site.send_to(node, Request::get(NUMBERS)).expect("a response");
    assert_eq!(response.status, 200, "{node}: {}", response.text());
    response.text().lines().map(|line| line.parse().expect("a number")).collect()
}

fn columns(site: &ThreeNodes) -> String {
    site.sql(
        "SELECT string_agg(column_name, ',' ORDER BY column_name) FROM information_schema.columns
             WHERE table_name = 'diagnostics_numbers'",
    )
}

/// An older version on the contracted tables gets no visitors, and says why; whoever asks it nevertheless gets a page.
fn check_refusal(site: &ThreeNodes, name: &str) {
    let before = site.log("b").len();
    let deadline = Instant::now() + Duration::from_secs(10);
    let ready = loop {
        match site.send_to("b", Request::get("/readyz")) {
            Ok(response) => break response,
            Err(error) => assert!(Instant::now() < deadline, "{name}: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(ready.status, 503, "{name}: {}", ready.text());
    // Long enough for the load balancer to ask, too.
    thread::sleep(Duration::from_secs(3));
    let asked = site.send_to("b", Request::get(NUMBERS)).expect("a response");
    assert_eq!(asked.status, 503, "{name}: {}", asked.text());
    let log = site.log("b");
    let sentence = "the store was last used by a newer version of the program (its tables of diagnostics are version 4";
    assert!(log[before..].contains(sentence), "{name}: {log}");
    // What needs no tables that it does not know.
    assert_eq!(site.send_to("b", Request::get("/")).expect("a response").status, 200, "{name}");
}
