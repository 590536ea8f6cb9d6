//! Tests of *inspect*: masking and `/proc` by tables, then what is shown of a request.

use axum::Router;
use http::Extensions;
use site::testing::{TestResponse, get, request, send};
use site::{BasePath, Server, ServerFacts, SiteSettings};

use super::TOOL;
use super::logic::{
    Limit, duration_in_words, is_secret, limits, mask_header, mask_variable, memory,
    seconds_running, size_in_words, without_secrets,
};

const ADDRESS: &str = "/tools/inspect";

fn site() -> Router {
    site::router_with(const { &[TOOL] }, &SiteSettings::default().public(["inspect"]))
}

// Masking.

#[test]
fn secrets_are_recognized_by_their_names() {
    for name in [
        "Authorization",
        "AUTH_PW",
        "cookie",
        "app-password-hash",
        "DB_PASS",
        "dbpwd",
        "MySecretThing",
        "X-CSRF-Token",
        "api_key",
        "Dsn",
        "SSL_SESSION_ID",
        "sig",
        "oauth-code",
        "user[pin]",
        "s3_access_key",
        "s3_secret_key",
    ] {
        assert!(is_secret(name), "{name}");
    }
    for name in ["host", "user-agent", "REMOTE_ADDR", "page", "PATH", "design", "side", "spin"] {
        assert!(!is_secret(name), "{name}");
    }
}

/// Variables that hosts set for an account's programs, and unknown ones.
#[test]
fn unknown_variables_are_shown_without_their_values() {
    for (name, value) in [
        ("DB_PASS", "TOP"),
        ("PGPASS", "TOP"),
        ("PGPASSFILE", "/home/me/TOP"),
        ("MYSQL_PWD", "TOP"),
        ("DATABASE_URL", "postgres://me:TOP@db.internal/site"),
        ("SENTRY_DSN", "https://TOP@sentry.example/1"),
        ("SMTP_CREDENTIALS", "TOP"),
        ("AWS_ACCESS_KEY_ID", "TOP"),
        ("GITHUB_PAT", "TOP"),
        ("LICENCE", "TOP"),
        ("A_NAME_OF_SOMEBODYS_OWN", "TOP"),
        ("APP_PASSWORD", "TOP"),
        ("APP_PASSWORD", ""),
        ("REDIRECT_APP_PASSWORD", "TOP"),
        ("REDIRECT_REDIRECT_DB_PASS", "TOP"),
        ("PHP_AUTH_PW", "TOP"),
        ("SSL_SESSION_ID", "TOP"),
        ("SSL_CLIENT_CERT", "TOP"),
        ("TOOLSHED_PASSWORD_HASH", "TOP"),
        ("HTTP_X_ORIGIN_VERIFY", "TOP"),
        ("HTTP_PROXY_AUTHORIZATION", "TOP"),
    ] {
        assert_eq!(mask_variable(name, value), "(hidden)", "{name}");
    }
}

#[test]
fn known_variables_are_shown_without_the_secrets_in_them() {
    for (name, value, expected) in [
        ("REMOTE_USER", "me", "me"),
        ("AUTH_TYPE", "Basic", "Basic"),
        ("REDIRECT_STATUS", "200", "200"),
        ("REDIRECT_REDIRECT_URL", "/a", "/a"),
        ("TOOLSHED_BASE", "/project", "/project"),
        ("HTTP_HOST", "example.org", "example.org"),
        ("HTTP_SEC_FETCH_SITE", "none", "none"),
        ("QUERY_STRING", "a=b&token=TOP", "a=b&token=(hidden)"),
        ("REQUEST_URI", "/x?api-key=TOP&c=d", "/x?api-key=(hidden)&c=d"),
        ("HTTP_AUTHORIZATION", "bearer TOP", "bearer (hidden)"),
        ("REDIRECT_HTTP_AUTHORIZATION", "Basic TOP", "Basic (hidden)"),
        ("HTTP_COOKIE", "a=TOP=TOP", "a=(hidden)"),
        ("TOOLSHED_S3_ACCESS_KEY", "TOP", "(hidden)"),
        ("TOOLSHED_S3_SECRET_KEY", "TOP", "(hidden)"),
    ] {
        assert_eq!(mask_variable(name, value), expected, "{name}: {value}");
    }
}

#[test]
fn only_harmless_headers_are_shown() {
    for (name, value, expected) in [
        ("authorization", "Basic dXNlcjpwYXNz", "Basic (hidden)"),
        ("authorization", "my secret words", "(hidden)"),
        ("authorization", "abc", "(hidden)"),
        ("cookie", "id=abc; theme=dark", "id=(hidden); theme=(hidden)"),
        ("cookie", "abc; a=b", "a=(hidden)"),
        ("cookie", "abc", "(hidden)"),
        ("x-api-key", "abc", "(hidden)"),
        ("x-origin-verify", "abc", "(hidden)"),
        ("host", "example.org", "example.org"),
        ("x-forwarded-for", "192.0.2.1, 192.0.2.2", "192.0.2.1, 192.0.2.2"),
        ("accept", "text/html;q=0.8, */*", "text/html;q=0.8, */*"),
        ("sec-ch-ua", "\"Chromium\";v=\"1\", \"A\";v=\"2\"", "\"Chromium\";v=\"1\", \"A\";v=\"2\""),
        ("referer", "https://a.example/b?password=x#c", "https://a.example/b?password=(hidden)#c"),
        ("referer", "https://me:abc@a.example/b", "https://(hidden)@a.example/b"),
    ] {
        assert_eq!(mask_header(name, value), expected, "{name}: {value}");
    }
}

#[test]
fn secrets_in_a_text_are_masked_in_any_spelling() {
    for (text, expected) in [
        ("", ""),
        ("a", "a"),
        ("a=b&c", "a=b&c"),
        ("?&;=#", "?&;=#"),
        ("PASSWORD=x", "PASSWORD=(hidden)"),
        ("p%61ssword=x&a=1", "p%61ssword=(hidden)&a=1"),
        ("token=a=b", "token=(hidden)"),
        ("next=%2Fa%3Ftoken%3Dabc&b=c", "next=(hidden)&b=c"),
        ("next=%2Fa%3Fb%3Dc", "next=%2Fa%3Fb%3Dc"),
        ("next=https%3A%2F%2Fme%3Aabc%40db", "next=(hidden)"),
        ("a=b;secret=c", "a=b;secret=(hidden)"),
        ("host=db password=abc user=me", "host=db password=(hidden) user=me"),
        ("mysql://me:abc@db/site?x=1", "mysql://(hidden)@db/site?x=1"),
        ("redis://:a@b@db,redis://:c@db", "redis://(hidden)@db,redis://(hidden)@db"),
        ("a://b c://d:e@f", "a://b c://(hidden)@f"),
        ("https://a.example/@me?mail=a@b.example", "https://a.example/@me?mail=a@b.example"),
        ("://", "://"),
        ("host=h password = TOP", "(hidden)"),
        ("password='T OP'", "(hidden)"),
        (r#"{"password":"TOP"}"#, "(hidden)"),
        (r#"{"p%61ssword":"TOP"}"#, "(hidden)"),
        ("q=%7B%22password%22%3A%22TOP%22%7D&b=1", "q=(hidden)&b=1"),
        (
            r#""Chromium";v="130", "Not?A_Brand";v="99""#,
            r#""Chromium";v="130", "Not?A_Brand";v="99""#,
        ),
    ] {
        assert_eq!(without_secrets(text), expected, "{text}");
    }
}

/// A visitor decides how deep it goes: at a URL's maximum length it must neither exhaust the stack nor take
/// long.
#[test]
fn repeatedly_encoded_values_are_masked_undecoded() {
    let levels = 20_000;
    let text = format!("a={}%{}3Da", "=".repeat(levels), "25".repeat(levels));
    assert_eq!(without_secrets(&text), "a=(hidden)");
}

// What Linux reports.

#[test]
fn limits_are_read_by_their_columns() {
    let text = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max processes             30                   40                   processes 
Max nice priority         0                    0                    
broken
";
    let limit = |name: &str, soft: &str, hard: &str, unit: &str| Limit {
        name: name.to_owned(),
        soft: soft.to_owned(),
        hard: hard.to_owned(),
        unit: unit.to_owned(),
    };
    let expected = [
        limit("cpu time", "unlimited", "unlimited", "seconds"),
        limit("processes", "30", "40", "processes"),
        limit("nice priority", "0", "0", ""),
    ];
    assert_eq!(limits(text), expected);
    assert!(limits("").is_empty() && limits("nonsense\nmore of it\n").is_empty());
}

#[test]
fn memory_and_times_are_read() {
    let status = "Name:\ttoolshed\nVmPeak:\t    9000 kB\nVmRSS:\t    1234 kB\nThreads:\t1\n";
    assert_eq!(memory(status, "VmRSS"), Some(1234 * 1024));
    assert_eq!(memory(status, "Vm"), None);
    assert_eq!(memory(status, "Threads"), None);
    // A program's name may be anything.
    let fields: Vec<_> = (4..=52).map(|field| (field * 100).to_string()).collect();
    let stat = format!("77 (a) (b c) S {}", fields.join(" "));
    assert_eq!(seconds_running(&stat, "100.50 300.00\n"), Some(78));
    assert_eq!(seconds_running(&stat, "1.00 1.00\n"), Some(0));
    assert_eq!(seconds_running("", ""), None);
    for (seconds, words) in
        [(3, "3 s"), (125, "2 min 5 s"), (10_800, "3 h 0 min"), (187_200, "2 d 4 h")]
    {
        assert_eq!(duration_in_words(seconds), words);
    }
    for (bytes, words) in [(512, "512 bytes"), (3_670_016, "3.5 MiB"), (5 << 30, "5.0 GiB")] {
        assert_eq!(size_in_words(bytes), words);
    }
}

// Requests.

const FACTS: ServerFacts = ServerFacts {
    name: site::Name::TOOLSHED,
    reference: String::new,
    variables: |_: &Extensions| {
        [
            ("SCRIPT_NAME", "/project/dispatch.fcgi"),
            ("QUERY_STRING", "a=b&access_token=TOP&<b>=1"),
            ("HTTP_COOKIE", "session=TOP; theme=TOP"),
            ("REDIRECT_HTTP_AUTHORIZATION", "Basic TOP"),
            ("APP_PASSWORD", "TOP"),
            ("HTTP_REFERER", "https://a.example/?key=TOP"),
            ("DB_PASS", "TOP"),
            ("DATABASE_URL", "postgres://me:TOP@db.internal/site"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    },
    facts: |_| vec![("Transport", "FastCGI".to_owned())],
    ..*Server::SILENT.0
};

fn ask(accept: &str) -> TestResponse {
    let request = request("PATCH", &format!("{ADDRESS}/a%2Fb?a=b&access_token=TOP"))
        .header("accept", accept)
        .header("authorization", "Basic TOP")
        .header("cookie", "session=TOP; theme=TOP")
        .header("x-api-key", "TOP")
        .header("x-origin-verify", "TOP")
        .header("user-agent", "<sample>")
        .extension(BasePath::new("/project"))
        .extension(Server(&FACTS));
    send(&site(), request.body(Default::default()).unwrap())
}

#[test]
fn no_secret_is_shown_in_any_form() {
    for accept in ["text/html", "application/json", "text/plain"] {
        let response = ask(accept);
        assert_eq!(response.status, 200, "{accept}");
        assert!(!response.text().contains("TOP"), "{accept}: {}", response.text());
        assert_eq!(response.header("cache-control"), Some("no-store"), "{accept}");
        for shown in ["session=(hidden); theme=(hidden)", "/project/dispatch.fcgi", "FastCGI"] {
            assert!(response.text().contains(shown), "{accept}: {shown}: {}", response.text());
        }
    }
}

#[test]
fn json_has_the_request_and_the_process() {
    let json: serde_json::Value = serde_json::from_slice(&ask("application/json").body).unwrap();
    let value = |list: &str, name: &str| {
        let list = json[list].as_array().unwrap();
        let fact = list.iter().find(|fact| fact["name"] == name);
        fact.unwrap_or_else(|| panic!("{name} is missing"))["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(value("request", "Method"), "PATCH");
    assert_eq!(value("request", "Path"), "/tools/inspect/a%2Fb");
    assert_eq!(value("request", "BASE"), "/project");
    assert_eq!(value("request", "Query"), "a=b&access_token=(hidden)");
    assert_eq!(value("headers", "user-agent"), "<sample>");
    assert_eq!(value("variables", "APP_PASSWORD"), "(hidden)");
    assert_eq!(value("program", "Transport"), "FastCGI");
    assert_eq!(value("program", "Process"), std::process::id().to_string());
    for name in ["Running for", "Tasks (threads)", "Memory in use", "Open descriptors"] {
        assert!(!value("program", name).is_empty(), "{name}");
    }
    let limits = json["limits"].as_array().unwrap();
    assert!(limits.iter().any(|limit| limit["name"] == "open files"), "{limits:?}");
}

#[test]
fn the_page_escapes_what_it_shows() {
    let html = ask("text/html");
    assert!(html.text().contains("&lt;sample&gt;") && !html.text().contains("<sample>"));
    assert!(!html.text().contains("<b>"));
}

#[test]
fn the_tool_is_public_only_if_named() {
    let closed = get(&site::router(const { &[TOOL] }), ADDRESS);
    assert_eq!(closed.status, 403);
    assert!(closed.text().contains("TOOLSHED_PUBLIC=all,inspect"), "{}", closed.text());
    assert_eq!(get(&site(), ADDRESS).status, 200);
}
