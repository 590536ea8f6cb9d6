//! Wrong settings × transports: a message and exit code 2 at a terminal, a page and the log for visitors.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::program::Installation;

const WRONG: &str = "# mine\nlog = \"my.log\"\nidle_timeout = \"5 parsecs\"\n";
const SENTENCE: &str = "toolshed.toml, line 3: idle_timeout is \"5 parsecs\"; write a time such as \
                        \"5 min\" or \"90 s\".";

#[test]
fn at_a_terminal_each_is_a_message_and_exit_code_2() {
    // name, file, environment, arguments, what is said
    type Case = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static [&'static str],
        &'static str,
    );
    let cases: &[Case] = &[
        (
            "a unit that is none",
            WRONG,
            &[],
            &["serve"],
            "! toolshed: toolshed.toml, line 3: idle_timeout is \"5 parsecs\"; write a time such as \"5 min\" or \"90 s\".
! Hint: `toolshed settings idle_timeout` explains it; the file is HOME/toolshed.toml.
",
        ),
        (
            "an unknown key",
            "idel_timeout = 5",
            &[],
            &["serve"],
            "! toolshed: toolshed.toml, line 1: unknown setting `idel_timeout`; did you mean `idle_timeout`?
! Hint: `toolshed settings idle_timeout` explains it; the file is HOME/toolshed.toml.
",
        ),
        (
            "a key like no other",
            "quark = 5",
            &[],
            &["tools"],
            "! toolshed: toolshed.toml, line 1: unknown setting `quark`; remove the line.
! Hint: the file is HOME/toolshed.toml.
",
        ),
        (
            "too large",
            "drain_timeout = \"2 h\"",
            &[],
            &["serve"],
            "! toolshed: toolshed.toml, line 1: drain_timeout is \"2 h\"; write from \"0 s\" to \"1 h\".
! Hint: `toolshed settings drain_timeout` explains it; the file is HOME/toolshed.toml.
",
        ),
        (
            "no TOML",
            "idle_timeout = 5 min",
            &[],
            &["settings"],
            "! toolshed: toolshed.toml, line 1: invalid TOML (string values must be quoted, expected literal string); write KEY = VALUE, with strings in double quotes.
! Hint: the file is HOME/toolshed.toml.
",
        ),
        (
            "a bracket that is not closed",
            "public = [\"all\"\nlog = \"a\"",
            &[],
            &["serve"],
            "! toolshed: toolshed.toml, line 2: invalid TOML (missing comma between array elements, expected `,`); write KEY = VALUE, with strings in double quotes.
! Hint: the file is HOME/toolshed.toml.
",
        ),
        (
            "a key that is there twice",
            "log = \"a\"\nlog = \"b\"",
            &[],
            &["serve"],
            "! toolshed: toolshed.toml, line 2: log is already set in line 1; delete one of the two lines.
! Hint: the file is HOME/toolshed.toml.
",
        ),
        (
            "a section",
            "[server]\nlog = \"a\"",
            &[],
            &["serve"],
            "! toolshed: toolshed.toml, line 1: server is a section; write its settings without a section.
! Hint: the file is HOME/toolshed.toml.
",
        ),
        (
            "in the environment",
            "",
            &[("TOOLSHED_BASE", "project"), ("TOOLSHED_MAX_REQUESTS", "many")],
            &["serve"],
            "! toolshed: TOOLSHED_BASE is \"project\"; write a path such as \"/project\".
! toolshed: TOOLSHED_MAX_REQUESTS is \"many\"; write a whole number from 1 to 65,536.
! Hint: `toolshed settings base` explains it; the file is HOME/toolshed.toml.
",
        ),
        (
            "on the command line",
            "",
            &[],
            &["fastcgi", "--listen", "8080"],
            "! toolshed: --listen is \"8080\"; write an address such as \"127.0.0.1:8080\" or \"unix:/run/app.sock\".
! Hint: `toolshed settings listen` explains it; the file is HOME/toolshed.toml.
",
        ),
        (
            "nowhere to listen",
            "",
            &[],
            &["fastcgi"],
            "! toolshed: fastcgi needs an address to listen on.
! Hint: toolshed fastcgi --listen unix:/run/toolshed.sock
",
        ),
        (
            "an address of FastCGI that is wrong",
            "listen = \"here\"",
            &[],
            &["fastcgi"],
            "! toolshed: toolshed.toml, line 1: listen is \"here\"; write an address such as \"127.0.0.1:8080\" or \"unix:/run/app.sock\".
! Hint: `toolshed settings listen` explains it; the file is HOME/toolshed.toml.
",
        ),
        (
            "a file that is not there",
            "",
            &[],
            &["serve", "--config", "nowhere.toml"],
            "! toolshed: nowhere.toml cannot be read: no such file; name another file in --config.
",
        ),
        (
            "a folder",
            "",
            &[("TOOLSHED_CONFIG", ".")],
            &["serve"],
            "! toolshed: . cannot be read: it is a folder; name another file in TOOLSHED_CONFIG.
",
        ),
    ];
    for (name, file, environment, arguments, expected) in cases {
        let installation = Installation::new();
        installation.write("toolshed.toml", file);
        let (code, text) = installation.run(arguments, environment);
        assert_eq!(text, *expected, "{name}");
        assert_eq!(code, 2, "{name}");
    }
}

#[test]
fn unreadable_files_are_reported() {
    let installation = Installation::new();
    let file = installation.path().join("toolshed.toml");
    std::fs::write(&file, b"# one\n# caf\xe9\n").unwrap();
    let expected = "! toolshed: toolshed.toml, line 2: invalid UTF-8; save the file as UTF-8.
! Hint: the file is HOME/toolshed.toml.
";
    assert_eq!(installation.run(&["serve"], &[]), (2, expected.to_owned()));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let expected = "! toolshed: HOME/toolshed.toml cannot be read: it is a folder; it has to be a file that \
                    this account can read.\n";
    assert_eq!(installation.run(&["serve"], &[]), (2, expected.to_owned()));
}

#[test]
fn what_editors_on_windows_leave_behind_does_no_harm() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "\u{feff}idle_timeout = \"2 min\"\r\npublic = \"all\"\r\n");
    let (code, text) = installation.run(&["settings"], &[]);
    assert!(code == 0 && text.contains("\"2 min\"  (toolshed.toml, line 1)"), "{text}");
}

#[test]
fn an_unknown_tool_is_reported_with_the_known_ones() {
    let installation = Installation::new();
    let (code, text) = installation.run(&["tools"], &[("TOOLSHED_PUBLIC", "all,chekcsum")]);
    let start = "! toolshed: TOOLSHED_PUBLIC is \"all,chekcsum\"; no such tool: \"chekcsum\"; write \
                 names from all, ";
    assert!(code == 2 && text.starts_with(start), "{text}");
}

#[test]
fn under_fastcgi_every_request_gets_a_page_and_the_log_the_cause() {
    for external in [false, true] {
        let installation = Installation::new();
        installation.write("toolshed.toml", WRONG);
        let running = match external {
            true => installation.start_external(&[]),
            false => installation.spawn_by_web_server(&[]),
        };
        for (method, uri) in [("GET", "/"), ("POST", "/tools/checksum"), ("GET", "/healthz")] {
            let response = running.ask(&[
                ("REQUEST_METHOD", method),
                ("REQUEST_URI", uri),
                ("REMOTE_ADDR", "127.0.0.1"),
            ]);
            assert!(response.starts_with("Status: 503"), "{uri}: {response}");
            assert!(response.to_lowercase().contains("retry-after: 30"), "{response}");
            assert!(response.contains("<h1>This site is being set up</h1>"), "{uri}: {response}");
            assert!(
                !response.contains("parsecs") && !response.contains("toml"),
                "{uri}: {response}"
            );
            // Every other address of the site shows the same page.
            assert!(!response.contains("ways-on") && !response.contains("Back to"), "{response}");
            let (_, rest) = response.split_once("<code>").expect("a reference");
            let (reference, _) = rest.split_once("</code>").unwrap();
            let log = installation.read("my.log");
            let line = log.lines().find(|line| line.contains(reference)).expect(&log);
            let cause = format!("Request failed: {SENTENCE} fault=\"configuration\"");
            assert!(line.contains(&cause), "{line}");
            assert!(line.contains(&format!("path=\"{uri}\"")), "{line}");
        }
        let log = installation.read("my.log");
        let lines: Vec<_> = log.lines().filter(|line| line.contains(" ERROR ")).collect();
        assert!(lines[0].ends_with(SENTENCE), "{log}");
        let rule = "Every request is answered with 503 until the configuration is fixed";
        assert!(lines[1].contains(rule) && lines[1].contains("toolshed.toml"), "{log}");
        let (code, said) = running.end();
        assert_eq!((code, said.as_str()), (0, ""), "external: {external}");
    }
}

#[test]
fn under_fastcgi_mistakes_are_logged_at_startup_and_the_process_continues() {
    // file, environment, what the log says
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);
    let cases: &[Case] = &[
        (
            "idel_timeout = 5",
            &[],
            &[
                "toolshed.toml, line 1: unknown setting `idel_timeout`; did you mean `idle_timeout`?",
            ],
        ),
        (
            "public = [\"all\"\nlog = \"a\"",
            &[],
            &[
                "toolshed.toml, line 2: invalid TOML (missing comma between array elements, expected `,`); write KEY = VALUE, with strings in double quotes.",
            ],
        ),
        (
            "[server]\nlog = 1\n[client]\n",
            &[],
            &[
                "toolshed.toml, line 1: server is a section; write its settings without a section.",
                "toolshed.toml, line 3: client is a section; write its settings without a section.",
            ],
        ),
        (
            "drain_timeout = \"2 h\"",
            &[("TOOLSHED_BASE", "project")],
            &[
                "toolshed.toml, line 1: drain_timeout is \"2 h\"; write from \"0 s\" to \"1 h\".",
                "TOOLSHED_BASE is \"project\"; write a path such as \"/project\".",
            ],
        ),
        (
            "",
            &[("TOOLSHED_CONFIG", "nowhere.toml")],
            &["nowhere.toml cannot be read: no such file; name another file in TOOLSHED_CONFIG."],
        ),
        (
            "listen = \"here\"",
            &[],
            &[
                "toolshed.toml, line 1: listen is \"here\"; write an address such as \"127.0.0.1:8080\" or \"unix:/run/app.sock\".",
            ],
        ),
        (
            "log = []",
            &[],
            &[
                "toolshed.toml, line 1: log is []; write the path of a file such as \"logs/app.log\".",
            ],
        ),
    ];
    for (file, environment, sentences) in cases {
        for external in [false, true] {
            let installation = Installation::new();
            installation.write("toolshed.toml", file);
            let running = match external {
                true => installation.start_external(environment),
                false => installation.spawn_by_web_server(environment),
            };
            let response = running.ask(&[("HTTP_ACCEPT", "application/json")]);
            assert!(response.starts_with("Status: 503"), "{file}: {response}");
            assert!(
                response.contains("\"title\":\"This site is being set up\""),
                "{file}: {response}"
            );
            let (code, said) = running.end();
            assert_eq!(code, 0, "{file}: {said}");
            // A process started by hand logs to standard error unless told otherwise.
            let log = if external { said } else { installation.read("logs/toolshed.log") };
            let named: Vec<_> = configuration_errors(&log).collect();
            assert_eq!(named, *sentences, "{file}, external: {external}");
        }
        // Over CGI, where each request starts the program.
        let installation = Installation::new();
        installation.write("toolshed.toml", file);
        let request = [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("REQUEST_METHOD", "GET"),
            ("REQUEST_URI", "/"),
            ("HTTP_ACCEPT", "application/json"),
        ];
        let (code, response) = installation.run(&[], &[environment, &request[..]].concat());
        assert_eq!(code, 0, "{file}: {response}");
        assert!(response.starts_with("Status: 503"), "{file}: {response}");
        assert!(response.contains("\"title\":\"This site is being set up\""), "{file}: {response}");
        let log = installation.read("logs/toolshed.log");
        let named: Vec<_> = configuration_errors(&log).collect();
        assert_eq!(named, *sentences, "{file}, over CGI");
    }
}

fn configuration_errors(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter_map(|line| Some(line.split_once(" ERROR Configuration error: ")?.1))
}

#[test]
fn the_page_shows_mistakes_only_if_the_setting_allows_it() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "idle_timeout = \"<5>\"\nshow_configuration_errors = true");
    let running = installation.spawn_by_web_server(&[]);
    let response = running.ask(&[("HTTP_ACCEPT", "text/plain")]);
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    let (text, _) = body.split_once("Reference: ").unwrap();
    assert_eq!(
        text,
        "This site is being set up. A setting is wrong, so there is nothing to see yet. This is what \
         the owner has to change:\n    toolshed.toml, line 1: idle_timeout is \"<5>\"; write a time \
         such as \"5 min\" or \"90 s\".\n"
    );
    let page = running.ask(&[]);
    assert!(page.contains("&lt;5&gt;") && !page.contains("<5>"), "{page}");
}

#[test]
fn once_fixed_the_same_process_serves_the_site() {
    let installation = Installation::new();
    installation.write("toolshed.toml", WRONG);
    let running = installation.spawn_by_web_server(&[]);
    assert!(running.ask(&[]).starts_with("Status: 503"));
    installation.write("toolshed.toml", "idle_timeout = \"5 parsec\"");
    assert!(running.ask(&[]).starts_with("Status: 503"));
    installation
        .write("toolshed.toml", "base = \"/project\"\npublic = \"all\"\nidle_timeout = \"5 min\"");
    let response = running.ask(&[("REQUEST_URI", "/project/healthz")]);
    assert!(response.starts_with("Status: 200") && response.ends_with("\r\n\r\nok"), "{response}");
    let front = running.ask(&[("REQUEST_URI", "/project/")]);
    assert!(front.contains("href=\"/project/tools/checksum\""), "{front}");
    let log = installation.read("my.log");
    for part in ["\"5 parsecs\"", "\"5 parsec\"", "Configuration fixed"] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[test]
fn a_valid_file_takes_effect() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "public = [\"checksum\"]");
    let running = installation.spawn_by_web_server(&[]);
    assert!(running.ask(&[("REQUEST_URI", "/tools/checksum")]).starts_with("Status: 200"));
    assert!(running.ask(&[("REQUEST_URI", "/tools/passwords")]).starts_with("Status: 401"));
    assert!(running.ask(&[("REQUEST_URI", "/healthz")]).starts_with("Status: 200"));
}

#[test]
fn with_every_limit_at_its_minimum_or_maximum_the_site_is_served() {
    let min = "max_connections = 1\nmax_requests = 1\nrequests_per_connection = 1
        params_bytes = \"8 KiB\"\nhttp_head_bytes = \"8 KiB\"\nbody_bytes = \"4 KiB\"
        spilled_body_bytes = 0\nresponse_bytes = \"4 KiB\"\nunread_body_bytes = 0
        idle_timeout = 1\nreceive_timeout = 1\nsend_timeout = 1\ndrain_timeout = 0";
    let max = "max_connections = 65536\nmax_requests = 65536\nrequests_per_connection = 65535
        params_bytes = \"16 MiB\"\nhttp_head_bytes = \"16 MiB\"\nbody_bytes = \"1 GiB\"
        spilled_body_bytes = \"1024 GiB\"\nresponse_bytes = \"1 GiB\"
        unread_body_bytes = \"1024 GiB\"\nidle_timeout = \"24 h\"\nreceive_timeout = \"24 h\"
        send_timeout = \"24 h\"\ndrain_timeout = \"1 h\"";
    for settings in [min, max] {
        let installation = Installation::new();
        installation.write("toolshed.toml", settings);
        let running = installation.spawn_by_web_server(&[]);
        for _ in 0..3 {
            assert!(running.ask(&[("REQUEST_URI", "/")]).starts_with("Status: 200"), "{settings}");
        }
        assert_eq!(running.end(), (0, String::new()), "{settings}");

        let arguments = ["serve", "--listen", "unix:http.sock", "--log", "my.log"];
        let mut child =
            installation.command(&arguments, &[]).stdout(Stdio::null()).spawn().unwrap();
        let mut stream = connect(&installation.path().join("http.sock"));
        let head = "GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{settings}: {response}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn connect(socket: &Path) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            Err(error) if Instant::now() > deadline => panic!("nobody listens: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
