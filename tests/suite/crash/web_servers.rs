//! Crashes behind real web servers.

use end_to_end::fixtures::{App, Kind, Running, Setup, apache_fcgid, nginx};
use end_to_end::http_client::{Request, Upload};

use super::http::{check_server_went_on, get};

/// Faults of each kind, behind a web server: what the visitors got, that the process stayed, that the
/// web server noticed nothing.
fn check_behind(server: &Running) {
    let pid = get(server, "/pid");
    for fault in ["null", "stack", "double-free", "malloc", "memory", "loop"] {
        let image = get(server, "/image");
        // Behind mod_fcgid it may be another process that is asked now.
        let target = format!("/crash/{fault}");
        let answer = Request::get(&*target).send(server.address);
        let answer = answer.unwrap_or_else(|error| panic!("{fault}: {error}\n{}", server.said()));
        let expected = if fault == "loop" { 504 } else { 500 };
        assert_eq!(answer.status, expected, "{fault}: {}\n{}", answer.text(), server.said());
        assert!(answer.text().contains("-crash"), "{fault}: {}", answer.text());
        check_server_went_on(server, &pid, &image);
    }
    // In the middle of the response: the client can see that it is incomplete.
    let image = get(server, "/image");
    let answer = Request::get("/crash/null?after=1000000").send(server.address);
    // mod_fcgid ends an answer without a length as if it were whole, whatever the program does. One with a
    // length is too short.
    let looks_whole = answer.is_ok();
    assert_eq!(looks_whole, server.kind == Kind::ApacheFcgid, "{}", server.said());
    check_server_went_on(server, &pid, &image);
    let image = get(server, "/image");
    let answer = Request::get("/crash/null?after=1000000&length=2000000").send(server.address);
    assert!(answer.is_err(), "it ends early");
    check_server_went_on(server, &pid, &image);
    // With a large upload arriving.
    let image = get(server, "/image");
    let upload = Request::post("/crash/null?read=100000", Upload::Counted(64 << 20));
    let answer = upload.send(server.address).expect("an answer comes");
    assert_eq!(answer.status, 500, "{}\n{}", answer.text(), server.said());
    check_server_went_on(server, &pid, &image);
}

#[test]
fn mod_fcgid_sees_no_process_exit() {
    let setup = Setup::new(App::TestApp, "").with_server_lines("FcgidMaxProcessesPerClass 1\n");
    let server = apache_fcgid::start(&setup).expect("Apache starts");
    check_behind(&server);
    let said = server.said();
    for word in ["End of script output before headers", "Premature end", "exit(", "graceful kill"] {
        assert!(!said.contains(word), "Apache says {word}:\n{said}");
    }
    let spawned = said.matches("dispatch.fcgi(").count() - said.matches(") exit(").count();
    assert_eq!(spawned, 1, "one process was spawned:\n{said}");
}

#[test]
fn nginx_with_keep_alive_gets_every_response() {
    let server = nginx::start(&Setup::new(App::TestApp, ""), true).expect("nginx starts");
    check_behind(&server);
    // Others in flight meanwhile.
    let image = get(&server, "/image");
    let pid = get(&server, "/pid");
    let hanging: Vec<_> =
        (0..8).map(|_| Request::get("/hang").begin(server.address).expect("it listens")).collect();
    assert_eq!(get(&server, "/healthz"), "ok");
    let answer = Request::get("/crash/abort").send(server.address).expect("an answer comes");
    assert_eq!(answer.status, 500);
    for hanging in hanging {
        assert_eq!(hanging.finish().expect("an answer comes").status, 503);
    }
    check_server_went_on(&server, &pid, &image);
}
