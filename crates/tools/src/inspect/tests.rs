//! Tests of *inspect*: masking and `/proc` by tables, then what is shown of a request.

use axum::Router;
use http::Extensions;
use site::testing::{Answer, get, request, send};
use site::{BasePath, Server, ServerFacts, SiteSettings};

use super::TOOL;
use super::logic::{
    Limit, duration_in_words, is_secret, limits, memory, seconds_running, shown, size_in_words,
    without_secret_parameters,
};

const ADDRESS: &str = "/tools/inspect";

fn site() -> Router {
    site::router_with(const { &[TOOL] }, &SiteSettings::default().public(["inspect"]))
}

// Masking.

#[test]
fn secrets_are_known_by_their_names() {
    for name in [
        "Authorization",
        "proxy-authorization",
        "HTTP_AUTHORIZATION",
        "REDIRECT_HTTP_AUTHORIZATION",
        "PHP_AUTH_PW",
        "cookie",
        "HTTP_COOKIE",
        "Set-Cookie",
        "APP_PASSWORD",
        "REDIRECT_APP_PASSWORD",
        "app-password-hash",
        "MySecretThing",
        "X-CSRF-Token",
        "HTTP_X_API_KEY",
        "api_key",
        "SSL_SESSION_ID",
    ] {
        assert!(is_secret(name), "{name}");
    }
    for name in ["host", "user-agent", "REMOTE_ADDR", "REMOTE_USER", "accept", "AUTH_TYPE", "PATH"]
    {
        assert!(!is_secret(name), "{name}");
    }
}

#[test]
fn of_secrets_only_what_helps_is_shown() {
    for (name, value, expected) in [
        ("authorization", "Basic dXNlcjpwYXNz", "Basic (hidden)"),
        ("HTTP_AUTHORIZATION", "bearer abc", "bearer (hidden)"),
        ("authorization", "my secret words", "(hidden)"),
        ("authorization", "abc", "(hidden)"),
        ("cookie", "id=abc; theme=dark", "id=(hidden); theme=(hidden)"),
        ("HTTP_COOKIE", "a=b=c", "a=(hidden)"),
        ("cookie", "abc; a=b", "a=(hidden)"),
        ("cookie", "abc", "(hidden)"),
        ("APP_PASSWORD", "abc", "(hidden)"),
        ("APP_PASSWORD", "", "(hidden)"),
        ("host", "example.org", "example.org"),
        ("accept", "text/html;q=0.8, */*", "text/html;q=0.8, */*"),
        ("QUERY_STRING", "a=b&token=abc", "a=b&token=(hidden)"),
        ("REQUEST_URI", "/x?api-key=abc&c=d", "/x?api-key=(hidden)&c=d"),
        ("referer", "https://a.example/b?password=x#c", "https://a.example/b?password=(hidden)#c"),
    ] {
        assert_eq!(shown(name, value), expected, "{name}: {value}");
    }
}

#[test]
fn secret_parameters_are_masked_however_they_are_spelt() {
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
        ("a=b;secret=c", "a=b;secret=(hidden)"),
    ] {
        assert_eq!(without_secret_parameters(text), expected, "{text}");
    }
}

// What Linux says.

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
    reference: String::new,
    variables: |_: &Extensions| {
        [
            ("SCRIPT_NAME", "/project/dispatch.fcgi"),
            ("QUERY_STRING", "a=b&access_token=TOP&<b>=1"),
            ("HTTP_COOKIE", "session=TOP; theme=TOP"),
            ("REDIRECT_HTTP_AUTHORIZATION", "Basic TOP"),
            ("APP_PASSWORD", "TOP"),
            ("HTTP_REFERER", "https://a.example/?key=TOP"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    },
    facts: |_| vec![("Way in", "FastCGI".to_owned())],
    ..*Server::SILENT.0
};

fn ask(accept: &str) -> Answer {
    let request = request("PATCH", &format!("{ADDRESS}/a%2Fb?a=b&access_token=TOP"))
        .header("accept", accept)
        .header("authorization", "Basic TOP")
        .header("cookie", "session=TOP; theme=TOP")
        .header("x-api-key", "TOP")
        .header("x-sample", "<sample>")
        .extension(BasePath::new("/project"))
        .extension(Server(&FACTS));
    send(&site(), request.body(Default::default()).unwrap())
}

#[test]
fn no_secret_is_shown_in_any_form() {
    for accept in ["text/html", "application/json", "text/plain"] {
        let answer = ask(accept);
        assert_eq!(answer.status, 200, "{accept}");
        assert!(!answer.text().contains("TOP"), "{accept}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{accept}");
        for shown in ["session=(hidden); theme=(hidden)", "/project/dispatch.fcgi", "FastCGI"] {
            assert!(answer.text().contains(shown), "{accept}: {shown}: {}", answer.text());
        }
    }
}

#[test]
fn json_says_what_came_and_what_the_process_is() {
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
    assert_eq!(value("headers", "x-sample"), "<sample>");
    assert_eq!(value("variables", "APP_PASSWORD"), "(hidden)");
    assert_eq!(value("program", "Way in"), "FastCGI");
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
fn it_has_to_be_named_to_be_open() {
    let closed = get(&site::router(const { &[TOOL] }), ADDRESS);
    assert_eq!(closed.status, 403);
    assert!(closed.text().contains("TOOLSHED_PUBLIC=all,inspect"), "{}", closed.text());
    assert_eq!(get(&site(), ADDRESS).status, 200);
}
