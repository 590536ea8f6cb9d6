//! Crashes behind real web servers.

use end_to_end::fixtures::{App, Kind, Running, Setup, apache_fcgid, nginx};
use end_to_end::http_client::{Request, Upload};

use super::http::{check_restarted, get};

/// Crashes a program behind a web server: every client gets a response, the process keeps its id, and the web
/// server does not notice.
fn check_behind(server: &Running) {
    let pid = get(server, "/pid");
    for fault in ["null", "stack", "double-free", "malloc", "memory", "loop"] {
        let image = get(server, "/image");
        let target = format!("/crash/{fault}");
        let response = Request::get(&*target).send(server.address);
        let response =
            response.unwrap_or_else(|error| panic!("{fault}: {error}\n{}", server.output()));
        let expected = if fault == "loop" { 504 } else { 500 };
        assert_eq!(response.status, expected, "{fault}: {}\n{}", response.text(), server.output());
        assert!(response.text().contains("-crash"), "{fault}: {}", response.text());
        check_restarted(server, &pid, &image);
    }
    // In the middle of the response: the client can see that it is incomplete.
    let image = get(server, "/image");
    let response = Request::get("/crash/null?after=1000000").send(server.address);
    // mod_fcgid ends a truncated response as if it were complete, unless it has a length.
    let looks_complete = response.is_ok();
    assert_eq!(looks_complete, server.kind == Kind::ApacheFcgid, "{}", server.output());
    check_restarted(server, &pid, &image);
    let image = get(server, "/image");
    let response = Request::get("/crash/null?after=1000000&length=2000000").send(server.address);
    assert!(response.is_err(), "it ends early");
    check_restarted(server, &pid, &image);
    // With a large upload arriving.
    let image = get(server, "/image");
    let upload = Request::post("/crash/null?read=100000", Upload::Counted(64 << 20));
    let response = upload.send(server.address).expect("a response arrives");
    assert_eq!(response.status, 500, "{}\n{}", response.text(), server.output());
    check_restarted(server, &pid, &image);
}

#[test]
fn mod_fcgid_sees_no_process_exit() {
    let setup = Setup::new(App::TestApp, "").with_server_lines("FcgidMaxProcessesPerClass 1\n");
    let server = apache_fcgid::start(&setup).expect("Apache starts");
    check_behind(&server);
    let output = server.output();
    for word in ["End of script output before headers", "Premature end", "exit(", "graceful kill"] {
        assert!(!output.contains(word), "Apache says {word}:\n{output}");
    }
    let spawned = output.matches("dispatch.fcgi(").count() - output.matches(") exit(").count();
    assert_eq!(spawned, 1, "one process was spawned:\n{output}");
}

#[test]
fn nginx_with_keep_alive_gets_every_response() {
    let server = nginx::start(&Setup::new(App::TestApp, ""), true).expect("nginx starts");
    check_behind(&server);
    // With other requests in flight.
    let image = get(&server, "/image");
    let pid = get(&server, "/pid");
    let hanging: Vec<_> =
        (0..8).map(|_| Request::get("/hang").begin(server.address).expect("it listens")).collect();
    assert_eq!(get(&server, "/healthz"), "ok");
    let response = Request::get("/crash/abort").send(server.address).expect("a response arrives");
    assert_eq!(response.status, 500);
    for hanging in hanging {
        assert_eq!(hanging.finish().expect("a response arrives").status, 503);
    }
    check_restarted(&server, &pid, &image);
}
