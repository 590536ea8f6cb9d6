//! Programs that start with what another program passes to them: a listening socket as descriptor 0 (spawn-fcgi)
//! or 3 (systemd), or a request in the environment (CGI).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::fcgi_client::{FastCgi, id};
use end_to_end::fixtures::{App, Folder, Setup, external, snippet};
use end_to_end::process_table;
use end_to_end::program::{Program, Start};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Checks that a program serves `socket` and exits on SIGTERM.
fn serves(mut program: Program, socket: &Path) {
    // The socket's file exists a moment before the program listens.
    let mut first = None;
    program
        .wait_until("it listened", || {
            first = FastCgi::connect(socket).ok();
            first.is_some()
        })
        .expect("it listens");
    for _ in 0..3 {
        let connection = first.take().map_or_else(|| FastCgi::connect(socket), Ok);
        let mut connection = connection.expect("it listens");
        let response = connection.get(id(1), false, "/healthz").expect("a response arrives");
        assert_eq!(response.body(), b"ok");
    }
    let pid = program.pid();
    assert_eq!(process_table::tasks(pid).expect("it runs"), 1);
    // No child inherits the socket.
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten() {
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let name = entry.file_name().to_string_lossy().into_owned();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{name}")).unwrap_or_default();
        // The descriptor may have been closed meanwhile.
        if let Some(flags) = info.lines().find_map(|line| line.strip_prefix("flags:")) {
            let flags = i32::from_str_radix(flags.trim(), 8).expect("an octal number");
            assert!(!is_socket || flags & libc::O_CLOEXEC != 0, "descriptor {name} is inherited");
        }
    }
    program.signal(libc::SIGTERM).expect("it runs");
    let status = program.wait(TIMEOUT).expect("it ends");
    assert_eq!(status.code(), Some(0), "output:\n{}", program.output());
}

#[test]
fn spawn_fcgi_starts_it() {
    let folder = Folder::new(&Setup::new(App::TestApp, "")).expect("a folder");
    let socket = folder.path().join("run/app.sock");
    let program = Start::new("/usr/bin/spawn-fcgi", folder.path().join("run/app.log"))
        .argument("-n")
        .argument("-s")
        .argument(&socket)
        .argument("--")
        .argument(folder.program())
        .start()
        .expect("spawn-fcgi starts; tests/run installs it");
    serves(program, &socket);
}

/// Like a systemd unit without StandardInput: the socket is descriptor 3, announced by LISTEN_FDS.
#[test]
fn systemd_starts_it_with_the_first_connection() {
    let folder = Folder::new(&Setup::new(App::TestApp, "")).expect("a folder");
    let socket = folder.path().join("run/app.sock");
    let program = Start::new("/usr/bin/systemd-socket-activate", folder.path().join("run/app.log"))
        .argument("-l")
        .argument(&socket)
        .argument(folder.program())
        .start()
        .expect("systemd-socket-activate starts; tests/run installs it");
    serves(program, &socket);
}

/// A shell's children inherit the variables, but LISTEN_PID names another process.
#[test]
fn sockets_meant_for_another_process_are_ignored() {
    let folder = Folder::new(&Setup::new(App::TestApp, "")).expect("a folder");
    let mut program = Start::new(folder.program(), folder.path().join("run/app.log"))
        .variable("LISTEN_PID", "1")
        .variable("LISTEN_FDS", "1")
        .start()
        .expect("it starts");
    assert_eq!(program.wait(TIMEOUT).expect("it ends").code(), Some(1));
    assert!(program.output().contains("not a listening socket"), "{}", program.output());
}

/// Verifies the units in docs/deploying.md with systemd-analyze.
#[test]
fn systemd_accepts_the_documented_units() {
    let folder = Folder::new(&Setup::new(App::TestApp, "")).expect("a folder");
    let units = ["toolshed.socket", "toolshed.service"];
    for unit in units {
        let text = snippet(&format!("systemd {unit}"), &folder, "/project");
        folder.write(&format!("run/{unit}"), text).expect("a file");
    }
    let verify = |service: &Path| {
        let analyzed = Command::new("/usr/bin/systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(folder.path().join("run/toolshed.socket"))
            .arg(service)
            .output()
            .expect("systemd-analyze starts; tests/run installs it");
        String::from_utf8_lossy(&analyzed.stderr).into_owned()
    };
    let service = folder.path().join("run/toolshed.service");
    let about_ours = |output: &str| {
        let lines = output.lines().filter(|line| line.contains("toolshed")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    assert_eq!(about_ours(&verify(&service)), Vec::<String>::new());
    // A mistake is reported.
    let text = fs::read_to_string(&service).expect("it was written");
    fs::write(&service, text.replace("StandardInput=socket", "StandardInput=sokcet"))
        .expect("a file");
    assert_ne!(about_ours(&verify(&service)), Vec::<String>::new());
}

#[test]
fn unterminated_output_is_logged_when_its_response_is_complete() {
    let program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut connection = program.connect().expect("it listens");
    connection.get(id(1), true, "/print?without-line-end").expect("a response arrives");
    // A keep-alive connection: the second response comes after the first is complete.
    connection.get(id(1), true, "/healthz").expect("a response arrives");
    assert!(program.app.output().contains("a stray piece"), "{}", program.app.output());
}

#[test]
fn over_cgi_children_inherit_neither_a_proxy_header_nor_the_password() {
    let folder = Folder::new(&Setup::new(App::TestApp, "")).expect("a folder");
    let ask = |name: &str| {
        let output = Command::new(folder.program())
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("REQUEST_METHOD", "GET")
            .env("REQUEST_URI", format!("/variable?{name}"))
            .env("HTTP_PROXY", "http://evil.test")
            .env("HTTP_X_OTHER", "stays")
            .env("APP_PASSWORD", "a long password")
            .env("REDIRECT_APP_PASSWORD", "a long password")
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let other = ask("HTTP_X_OTHER");
    assert!(other.ends_with("\r\n\r\nstays"), "{other}");
    for gone in ["HTTP_PROXY", "APP_PASSWORD", "REDIRECT_APP_PASSWORD"] {
        let output = ask(gone);
        assert!(output.starts_with("Status: 200 ") && output.ends_with("\r\n\r\nnone"), "{output}");
    }
}
