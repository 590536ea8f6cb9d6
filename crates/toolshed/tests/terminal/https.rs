//! HTTPS as the web server reports it: which requests are redirected, and which are answered.

use crate::program::Installation;

const BY_HTTP: &[(&str, &str)] = &[("REQUEST_URI", "/a?b"), ("HTTP_HOST", "example.org:8080")];

fn has(response: &str, line: &str) -> bool {
    let (head, _) = response.split_once("\r\n\r\n").expect("a head");
    head.lines().any(|found| found.eq_ignore_ascii_case(line))
}

#[test]
fn https_redirect_also_raises_hsts_to_half_a_year() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "https = \"redirect\"\n");
    let running = installation.spawn_by_web_server(&[]);
    let response = running.ask(BY_HTTP);
    assert!(has(&response, "Status: 301 Moved Permanently"), "{response}");
    assert!(has(&response, "location: https://example.org/a?b"), "{response}");
    assert!(!response.to_ascii_lowercase().contains("strict-transport-security"), "{response}");

    let response = running.ask(&[BY_HTTP, &[("HTTPS", "on")]].concat());
    assert!(response.starts_with("Status: 404"), "{response}");
    assert!(has(&response, "strict-transport-security: max-age=15768000"), "{response}");

    // A proxy that is not configured terminates HTTPS: no redirect loop, and the log tells the owner what to do.
    let response = running.ask(&[BY_HTTP, &[("HTTP_X_FORWARDED_PROTO", "https")]].concat());
    assert!(response.starts_with("Status: 404"), "{response}");
    running.end();
    let log = installation.read("logs/toolshed.log");
    assert_eq!(log.matches("Add the proxy to trusted_proxies").count(), 1, "{log}");
}

#[test]
fn https_is_optional_unless_the_owner_says_so() {
    let installation = Installation::new();
    let running = installation.spawn_by_web_server(&[]);
    assert!(running.ask(BY_HTTP).starts_with("Status: 404"));
    let response = running.ask(&[BY_HTTP, &[("HTTPS", "on")]].concat());
    assert!(has(&response, "strict-transport-security: max-age=86400"), "{response}");
    running.end();

    installation.write("toolshed.toml", "https = \"redirect\"\nhsts = \"1 h\"\n");
    let (_, text) = installation.run(&["settings"], &[]);
    assert!(text.contains("hsts") && text.contains("1 h"), "{text}");
}
