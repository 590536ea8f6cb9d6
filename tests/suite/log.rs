//! A log that cannot be written, that nobody reads, or that a client floods: no request waits for it or fails
//! because of it, and the disk does not fill up.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::id;
use end_to_end::fixtures::external::{self, External};
use end_to_end::fixtures::{App, Setup, apache_fcgid};
use end_to_end::http_client::{Request, Upload};
use end_to_end::program::Limit;

const TIMEOUT: Duration = Duration::from_secs(20);

/// The status of the response to a request without a body.
fn ask(program: &External, method: &str, target: &str) -> u16 {
    let mut connection = program.connect().expect("it listens");
    connection.begin(id(1), false, method, target, None);
    connection.stdin_end(id(1));
    connection.flush().expect("the program reads");
    let response = connection.finish(id(1));
    response.unwrap_or_else(|error| panic!("{method} {target}: {error}")).status()
}

/// The program's address in memory, which differs after each exec.
fn image(program: &External) -> String {
    let maps = fs::read_to_string(format!("/proc/{}/maps", program.app.pid())).expect("it runs");
    maps.lines().next().expect("it has memory").to_owned()
}

/// Checks everything that is logged: malformed requests, failures of tools, crashes, an upgrade, the exit; with
/// `prints`, also what tools print.
fn check_all_messages(mut program: External, prints: bool) {
    for _ in 0..3 {
        assert_eq!(ask(&program, "GET", "/healthz"), 200);
        assert_eq!(ask(&program, "G T", "/"), 400);
        if prints {
            assert_eq!(ask(&program, "POST", "/tools/diagnostics/stdout"), 200);
        }
        for runs in ["inline", "isolated"] {
            let panic = format!("/tools/diagnostics/crash?how=panic&runs={runs}");
            assert_eq!(ask(&program, "POST", &panic), 500, "{runs}");
        }
        assert_eq!(ask(&program, "POST", "/tools/diagnostics/crash?how=segv&runs=isolated"), 500);
    }
    let before = image(&program);
    assert_eq!(ask(&program, "POST", "/tools/diagnostics/crash?how=segv&runs=inline"), 500);
    assert_eq!(ask(&program, "GET", "/healthz"), 200);
    assert_ne!(image(&program), before, "it has restarted in place");
    let before = image(&program);
    program.app.signal(libc::SIGHUP).expect("it runs");
    let started = Instant::now();
    while image(&program) == before {
        assert!(started.elapsed() < TIMEOUT, "it does not upgrade");
        assert_eq!(ask(&program, "GET", "/healthz"), 200);
    }
    assert_eq!(program.check_unharmed(), Ok(()));
    assert_eq!(program.app.terminate().expect("it ends").code(), Some(0));
}

fn setup() -> Setup {
    Setup::new(App::Toolshed, "").with_upgrade().with_variable("TOOLSHED_PUBLIC", "all,diagnostics")
}

#[test]
fn a_full_disk_blocks_no_request() {
    let setup = setup().with_variable("TOOLSHED_LOG", "/dev/full");
    check_all_messages(external::start(&setup).expect("the program starts"), true);
}

#[test]
fn a_file_size_limit_blocks_no_request() {
    // Like a quota. It also applies to all other files that the program writes.
    let started = external::start_with(&setup(), |start, folder| {
        fs::write(folder.join("run/app.log"), "there is a line already\n").expect("it is written");
        start.variable("TOOLSHED_LOG", folder.join("run/app.log")).limit(Limit::FileSize, 10)
    });
    check_all_messages(started.expect("the program starts"), true);
}

#[test]
fn an_unread_pipe_blocks_no_request() {
    let mut pipe = None;
    let started = external::start_with(&setup(), |start, folder| {
        let path = folder.join("run/pipe");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        // Opened in both directions: the pipe has a reader, which never reads.
        let mut options = fs::File::options();
        let mut filled = options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .expect("it is there");
        while filled.write(&[b'x'; 4096]).is_ok() {}
        while filled.write(b"x").is_ok() {}
        pipe = Some(filled);
        start.output(path)
    });
    // Without `prints`: a tool that prints would block until the watchdog ends it.
    check_all_messages(started.expect("the program starts"), false);
    drop(pipe);
}

/// A failed `println!` panics, and the client gets a response.
#[test]
fn a_failed_print_fails_only_its_own_request() {
    let setup = Setup::new(App::TestApp, "");
    let started = external::start_with(&setup, |start, _| start.limit(Limit::FileSize, 0));
    let mut program = started.expect("the program starts");
    for target in ["/print", "/panic", "/print?without-line-end"] {
        let status = ask(&program, "GET", target);
        assert!([200, 500].contains(&status), "{target}: {status}");
        assert_eq!(ask(&program, "GET", "/healthz"), 200, "after {target}");
    }
    assert_eq!(program.check_unharmed(), Ok(()));
}

/// tracing-subscriber panics by default if the disk is full.
#[test]
fn a_log_that_panics_ends_no_process() {
    let setup = Setup::new(App::TestApp, "");
    let started = external::start_with(&setup, |start, _| {
        // Enough for the messages at startup.
        start.variable("TEST_APP_LOG_PANICS", "1").limit(Limit::FileSize, 2000)
    });
    let mut program = started.expect("the program starts");
    for round in 0..30 {
        assert_eq!(ask(&program, "GET", "/panic"), 500, "round {round}");
        assert!([400, 500].contains(&ask(&program, "G T", "/")), "round {round}");
        assert_eq!(ask(&program, "GET", "/healthz"), 200, "round {round}");
    }
    assert_eq!(program.check_unharmed(), Ok(()));
}

/// The total size of the files in a folder whose names start with `name`.
fn bytes(folder: &Path, name: &str) -> u64 {
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
    ours.map(|entry| entry.metadata().map_or(0, |it| it.len())).sum()
}

#[test]
fn a_flood_of_refused_forms_neither_fills_the_disk_nor_hides_other_messages() {
    const LIMIT: u64 = 64 * 1024;
    // As installed.
    let setup = Setup::new(App::Toolshed, "").with_upgrade();
    let running = apache_fcgid::start(&setup).expect("Apache starts");
    let settings = "public = [\"all\", \"diagnostics\"]\nlog_bytes = \"64 KiB\"\n";
    fs::write(running.folder().join("toolshed.toml"), settings).expect("it is written");
    let logs = running.folder().join("logs");
    let cross_site = || {
        Request::post("/login", Upload::Text(b"password=x".to_vec()))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Sec-Fetch-Site", "cross-site")
            .header("User-Agent", &"long ".repeat(100))
            .send(running.address)
            .expect("a response")
            .status
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1500).for_each(|_| assert_eq!(cross_site(), 403)));
        }
    });
    let output = || running.program_logs();
    let refusals = output().matches("Cross-site request blocked").count();
    let processes = running.our_processes().len();
    assert!(refusals >= 100 && refusals <= 130 * processes, "{refusals} of {processes} processes");
    assert!(bytes(&logs, "toolshed.log") <= 2 * LIMIT, "{}", bytes(&logs, "toolshed.log"));
    // Messages of other kinds are still written.
    let panicked = Request::post("/tools/diagnostics/crash?how=panic&runs=inline", Upload::Nothing);
    assert_eq!(panicked.send(running.address).expect("a response").status, 500);
    assert!(output().contains("panicked"), "{}", output());
    // The next message of the flood says how many were suppressed.
    let started = Instant::now();
    while !output().contains("more like this") {
        assert!(started.elapsed() < TIMEOUT, "{}", output());
        assert_eq!(cross_site(), 403);
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(running.stop(), Ok(()));
}

/// What tools print does not pass through the log's code.
#[test]
fn printed_lines_count_towards_log_rotation() {
    const LIMIT: u64 = 64 * 1024;
    let setup = setup().with_variable("TOOLSHED_LOG_BYTES", "64 KiB");
    let started = external::start_with(&setup, |start, folder| {
        start.variable("TOOLSHED_LOG", folder.join("run/log"))
    });
    let program = started.expect("the program starts");
    let folder = program.folder().join("run");
    let started = Instant::now();
    while !folder.join("log.1").exists() {
        assert!(started.elapsed() < TIMEOUT, "{} bytes", bytes(&folder, "log"));
        assert_eq!(ask(&program, "POST", "/tools/diagnostics/stdout"), 200);
    }
    // A few thousand requests fit into the second between two checks.
    assert!(bytes(&folder, "log") <= 64 * LIMIT, "{} bytes", bytes(&folder, "log"));
    let before = bytes(&folder, "log.1");
    assert_eq!(ask(&program, "POST", "/tools/diagnostics/stdout"), 200);
    assert_eq!(bytes(&folder, "log.1"), before, "printed lines go to the new file");
}
