//! Tests of *diagnostics*: limits as tables, the page, and what works without a crash. The culprits themselves run
//! in the end-to-end tests, in processes of their own.

#[cfg(feature = "culprits")]
mod faults;

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use site::SiteSettings;
use site::testing::{get, post};
use tower_service::Service;

use super::TOOL;
use super::logic::{BUILD_WITH_ALL, CULPRITS, LEFT_OUT, When, crash, runs, sleep, stream};

const ADDRESS: &str = "/tools/diagnostics";

fn site() -> Router {
    site::router_with(const { &[TOOL] }, &SiteSettings::default().public(["diagnostics"]))
}

/// Sends a request inside an event loop, for handlers that wait.
fn send(method: &str, path: &str) -> (u16, String) {
    event_loop::run(async {
        let request = Request::builder().method(method).uri(format!("{ADDRESS}{path}"));
        let Ok(response) = site().call(request.body(Body::empty()).unwrap()).await;
        let status = response.status().as_u16();
        let body = site::Chunks::new(response.into_body()).collect(1 << 30).await.unwrap();
        (status, String::from_utf8(body).unwrap())
    })
    .unwrap()
}

#[test]
fn parameters_have_limits() {
    for (query, expected) in [
        ("", Some(1.0)),
        ("seconds=1.5", Some(1.5)),
        ("seconds=0", Some(0.0)),
        ("seconds=600", Some(600.0)),
        ("seconds=600.1", None),
        ("seconds=2&seconds=3", Some(2.0)),
        ("seconds=-1", None),
        ("seconds=nan", None),
        ("seconds=inf", None),
        ("seconds=x", None),
    ] {
        let expected = expected.map(Duration::from_secs_f64);
        assert_eq!(sleep(query).ok(), expected, "{query}");
    }
    for (query, expected) in [
        ("", Some(1)),
        ("mib=0", Some(0)),
        ("mib=4096", Some(4096)),
        ("mib=4097", None),
        ("mib=1.5", None),
        ("mib=-1", None),
    ] {
        assert_eq!(stream(query).ok(), expected, "{query}");
    }
}

#[test]
fn every_culprit_is_found_by_its_name() {
    for culprit in CULPRITS {
        let (found, when) = crash(&format!("how={}&runs=inline", culprit.how)).unwrap();
        assert_eq!((found.how, when), (culprit.how, When::Now));
    }
    assert_eq!(crash("how=abort&when=answering").unwrap().1, When::Answering);
    assert_eq!(crash("how=abort&when=receiving&runs=isolated").unwrap().1, When::Receiving);
    for wrong in ["", "how=nothing", "how=abort&when=never", "how=abort&runs=away"] {
        let why = crash(wrong).unwrap_err();
        assert!(why.contains("is one of"), "{wrong}: {why}");
    }
}

#[test]
fn a_request_chooses_where_it_runs() {
    for (uri, isolated) in [
        ("/tools/diagnostics/crash?how=abort&runs=isolated", true),
        ("/tools/diagnostics/crash?how=abort&runs=inline", false),
        ("/tools/diagnostics/crash?how=abort", false),
        ("/tools/diagnostics", false),
    ] {
        assert_eq!(runs(&uri.parse().unwrap()).is_some(), isolated, "{uri}");
    }
}

#[test]
fn the_page_describes_every_culprit() {
    let response = get(&site(), ADDRESS);
    assert_eq!(response.status, 200);
    for culprit in CULPRITS {
        assert!(response.text().contains(culprit.what), "{}", culprit.how);
        for runs in ["inline", "isolated"] {
            let action = format!("{ADDRESS}/crash?how={}&amp;runs={runs}", culprit.how);
            assert!(response.text().contains(&action), "{action}");
        }
    }
}

#[test]
fn the_page_says_how_to_build_missing_culprits_in() {
    let text = get(&site(), ADDRESS).text().replace("&#x2F;", "/");
    assert_eq!(text.contains(BUILD_WITH_ALL), cfg!(not(feature = "culprits")), "{text}");
    for how in ["segv", "double-free", "overrun", "malloc"] {
        let is_here = CULPRITS.iter().any(|culprit| culprit.how == how);
        assert_eq!(is_here, cfg!(feature = "culprits"), "{how}");
        assert_eq!(LEFT_OUT.contains(&how), !is_here, "{how}");
        if !is_here {
            let why = crash(&format!("how={how}")).unwrap_err();
            assert!(why.contains(how) && why.contains(BUILD_WITH_ALL), "{why}");
            assert!(!text.contains(&format!("how={how}")), "{how} is offered");
        }
    }
}

#[test]
fn nobody_crashes_a_site_by_following_links() {
    for path in ["/crash?how=abort", "/stdout", "/child"] {
        assert_eq!(get(&site(), &format!("{ADDRESS}{path}")).status, 405, "{path}");
    }
    let closed = site::router(const { &[TOOL] });
    assert_eq!(post(&closed, &format!("{ADDRESS}/crash?how=abort"), "text/plain", "").status, 403);
}

#[test]
fn sleep_and_stream_have_limits() {
    assert_eq!(send("GET", "/sleep?seconds=0.01"), (200, "Slept 0.01 s.\n".to_owned()));
    let (status, text) = send("GET", "/sleep?seconds=1e9");
    assert_eq!(status, 400);
    assert!(text.contains("from 0 to 600"), "{text}");
    let (status, text) = send("GET", "/stream?mib=3");
    assert_eq!((status, text.len()), (200, 3 << 20));
    assert_eq!(send("GET", "/stream?mib=0").1, "");
    let length = get(&site(), &format!("{ADDRESS}/stream?mib=2"));
    assert_eq!(length.header("content-length"), Some("2097152"));
}

#[test]
fn a_child_program_runs_and_its_output_is_shown() {
    let (status, text) = send("POST", "/child");
    assert_eq!(status, 200);
    for words in ["line 1 of process", "line 5 of process", "It exited: exit status: 0."] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Its three descriptors, and the one that `ls` opens.
    let open = text.lines().filter(|line| line.contains(" -> ")).count();
    assert_eq!(open, 4, "{text}");
}

#[test]
fn a_panic_is_a_500() {
    let culprit = CULPRITS.iter().find(|culprit| culprit.how == "panic").unwrap();
    assert!(std::panic::catch_unwind(culprit.run).is_err());
}
