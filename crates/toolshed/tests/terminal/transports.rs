//! CGI and the shell: the whole site in a process that answers one request.

use std::io::Write;
use std::process::Stdio;

use crate::program::Installation;

const CGI: [(&str, &str); 3] = [
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("REQUEST_METHOD", "GET"),
    ("SCRIPT_NAME", "/project/dispatch.fcgi"),
];

/// Sends a request as a CGI web server does.
fn ask(installation: &Installation, uri: &str) -> (i32, String) {
    let variables = [CGI[0], CGI[1], CGI[2], ("REQUEST_URI", uri)];
    installation.run(&[], &variables)
}

#[test]
fn the_site_over_cgi() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "public = \"all\"");
    let (code, text) = ask(&installation, "/project/healthz");
    assert_eq!(code, 0);
    assert!(text.starts_with("Status: 200 OK\r\n") && text.ends_with("\r\n\r\nok"), "{text}");
    let (code, text) = ask(&installation, "/project/");
    assert_eq!(code, 0);
    assert!(text.contains("href=\"/project/tools/checksum\""), "{text}");
    let (code, text) = ask(&installation, "/project/nowhere");
    assert_eq!(code, 0, "a response was sent");
    assert!(text.starts_with("Status: 404 Not Found\r\n"), "{text}");
    // Nothing was logged, so there is no file.
    assert!(!installation.path().join("logs").exists());
}

#[test]
fn over_cgi_a_wrong_setting_gets_a_page_and_the_log_has_the_cause() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "listen = 7");
    let (code, text) = ask(&installation, "/project/");
    assert_eq!(code, 0);
    assert!(text.starts_with("Status: 503 "), "{text}");
    assert!(installation.read("logs/toolshed.log").contains("listen"));
}

#[test]
fn when_the_log_cannot_be_written_the_web_servers_log_has_it() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "listen = 7");
    installation.write("logs", "a file where a folder should be");
    let (code, text) = ask(&installation, "/project/");
    assert_eq!(code, 0);
    assert!(text.starts_with("Status: 503 "), "{text}");
    assert!(
        text.contains("! toolshed: The log file HOME/logs/toolshed.log cannot be written"),
        "{text}"
    );
}

#[test]
fn one_request_in_the_shell() {
    let installation = Installation::new();
    let (code, text) = installation.run(&["request", "GET", "/healthz"], &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("200 OK\ncontent-type: text/plain; charset=utf-8\n"), "{text}");
    assert!(text.ends_with("\n\nok"), "{text}");
    let json = ["request", "GET", "/nowhere", "-H", "Accept: application/json"];
    let (code, text) = installation.run(&json, &[]);
    assert_eq!(code, 4, "{text}");
    assert!(text.starts_with("404 Not Found\n") && text.contains("application/json"), "{text}");
}

#[test]
fn the_shell_shows_page_and_cause_of_a_failure() {
    let installation = Installation::new();
    let panics = "/tools/diagnostics/crash?how=panic&runs=inline";
    let (code, text) =
        installation.run(&["request", "POST", panics, "-H", "Accept: text/plain"], &[]);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("500 Internal Server Error\n"), "{text}");
    let (_, rest) = text.split_once("Reference: ").expect(&text);
    let reference = rest.lines().next().unwrap_or_default();
    // It appears again with the cause.
    let cause = text.lines().find(|line| line.contains(&format!("reference={reference}")));
    let cause = cause.expect(&text);
    assert!(cause.contains(" ERROR ") && cause.contains("panicked"), "{cause}");
}

/// The shell has no crash guard, but isolated tools are isolated, and the site renders the page.
#[test]
fn an_isolated_crash_is_a_page_in_the_shell_too() {
    let crash = "/tools/diagnostics/crash?how=abort&runs=isolated";
    let (code, text) =
        Installation::new().run(&["request", "POST", crash, "-H", "Accept: application/json"], &[]);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("500 Internal Server Error\n"), "{text}");
    assert!(text.contains("\"reference\":\""), "{text}");
}

#[test]
fn a_body_from_a_file_or_standard_input() {
    let installation = Installation::new();
    installation.write("words", "hello");
    let md5 = "5d41402abc4b2a76b9719d911017c592";
    let put = ["request", "POST", "/tools/checksum?alg=md5", "--body"];
    let (code, text) = installation.run(&[&put[..], &["words"]].concat(), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(md5), "{text}");

    let mut command = installation.command(&[&put[..], &["-"]].concat(), &[]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains(md5));
}

#[test]
fn mistakes_in_request_are_reported() {
    for (arguments, code, expected) in [
        (&["request", "G T", "/"][..], 2, "! toolshed: Invalid method: \"G T\".\n"),
        (
            &["request", "GET", "healthz"],
            2,
            "! toolshed: Invalid path \"healthz\": it does not start with /.",
        ),
        (&["request", "GET", "/a b"], 2, "! toolshed: Invalid path \"/a b\": "),
        (&["request", "GET", "/", "-H", "Accept"], 2, "! toolshed: Invalid header: \"Accept\".\n"),
        (
            &["request", "POST", "/", "--body", "/nowhere"],
            1,
            "! toolshed: The body /nowhere cannot be read: No such file or directory (os error 2).\n",
        ),
        (&["request", "GET"], 2, "! error: the following required arguments were not provided"),
    ] {
        let (found, text) = Installation::new().run(arguments, &[]);
        assert_eq!(found, code, "{text}");
        assert!(text.starts_with(expected), "{arguments:?}: {text}");
    }
}
