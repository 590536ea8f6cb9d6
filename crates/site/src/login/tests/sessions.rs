//! Sessions: how they start and end, and that nobody forges one.

use super::*;

#[test]
fn fixation_a_session_has_a_fresh_number() {
    let site = Site::new();
    let mut attacker = Browser::new(&site.router);
    assert_eq!(attacker.log_in(PASSWORD).status, 303);
    let planted = attacker.cookies["toolshed"].clone();
    // The victim's browser has the attacker's cookie, and logs in.
    let mut victim = Browser::new(&site.router);
    victim.cookies.insert("toolshed".to_owned(), planted.clone());
    let front = victim.get("/");
    victim.post("/logout", &format!("csrf={}", token(&front)));
    victim.cookies.insert("toolshed".to_owned(), planted.clone());
    assert_eq!(victim.log_in(PASSWORD).status, 303);
    assert_ne!(victim.cookies["toolshed"], planted);
    assert!(victim.is_owner() && !attacker.is_owner());
}

#[test]
fn forged_stale_and_foreign_cookies_open_nothing() {
    let site = Site::new();
    let mut owner = Browser::new(&site.router);
    assert_eq!(owner.log_in(PASSWORD).status, 303);
    let good = owner.cookies["toolshed"].clone();
    let elsewhere = Site::new();
    let mut other = Browser::new(&elsewhere.router);
    assert_eq!(other.log_in(PASSWORD).status, 303);
    let mut flipped = good.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for (what, cookie) in [
        ("nothing", ""),
        ("a guess", "owner"),
        ("a changed letter", &flipped),
        ("cut", &good[..good.len() - 4]),
        ("another site's", &other.cookies["toolshed"]),
        ("our own of another name", &owner.cookies["toolshed-known"]),
        ("much", &"A".repeat(6000)),
    ] {
        let mut browser = Browser::new(&site.router);
        browser.cookies.insert("toolshed".to_owned(), cookie.to_owned());
        assert!(!browser.is_owner(), "{what}");
        assert_eq!(browser.get("/").status, 200, "{what}");
    }
    // A neighbor's cookie before ours does not lock the owner out.
    let mut browser = Browser::new(&site.router);
    browser.cookies.insert("a".to_owned(), format!("b; toolshed=forged; toolshed={good}"));
    assert!(browser.is_owner());
    // Nobody can make a cookie from a copy of the store.
    let row: Vec<u8> = site.find("SELECT id FROM sessions");
    assert_eq!(row.len(), 32);
    assert!(owner.is_owner());
}

#[test]
fn sessions_end_by_time_by_password_and_everywhere_at_once() {
    const DAY: i64 = 24 * 3600;
    let site = Site::new();
    let (mut left, mut right) = (Browser::new(&site.router), Browser::new(&site.router));
    assert_eq!(left.log_in(PASSWORD).status, 303);
    assert_eq!(right.log_in(PASSWORD).status, 303);
    assert!(left.get("/account").text().matches("last seen").count() == 2);

    // Used every six days it lasts, but not longer than thirty.
    for _ in 0..4 {
        site.let_pass(6 * DAY);
        assert!(left.is_owner());
        assert!(
            left.set.iter().any(|cookie| cookie.starts_with("toolshed=")),
            "the cookie is extended, too"
        );
    }
    assert!(left.is_owner() && left.set.is_empty(), "but not with every request");
    assert!(!right.is_owner(), "seven days of silence");
    site.let_pass(6 * DAY);
    assert!(!left.is_owner(), "thirty days in all");

    assert_eq!(left.log_in(PASSWORD).status, 303);
    assert_eq!(right.log_in(PASSWORD).status, 303);
    let account = left.get("/account");
    let everywhere = format!("csrf={}&end=everywhere&password={TYPED}", token(&account));
    assert_eq!(location(&left.post("/account/sessions", &everywhere)), "/");
    assert!(!left.is_owner() && !right.is_owner());

    assert_eq!(left.log_in(PASSWORD).status, 303);
    let changed = site.again(|login| login.password = Password::clear("another password"));
    let mut same_browser = Browser { router: changed, ..Browser::new(&site.router) };
    same_browser.cookies = left.cookies.clone();
    assert!(left.is_owner() && !same_browser.is_owner());

    std::fs::remove_file(site.folder.path().join("data/secret.key")).unwrap();
    let mut same_browser =
        Browser { cookies: left.cookies.clone(), ..Browser::new(&site.again(|_| {})) };
    assert!(!same_browser.is_owner(), "a new key ends all");
}

/// A session recorded by a clock that was ahead does not last longer because of it, and its cookie is still extended.
#[test]
fn a_session_started_while_the_clock_was_ahead_is_like_any_other() {
    const DAY: i64 = 24 * 3600;
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    site.let_pass(-365 * DAY);
    assert!(browser.is_owner());
    assert!(
        browser.set.iter().any(|cookie| cookie.starts_with("toolshed=")),
        "its cookie is extended"
    );
    assert!(browser.is_owner() && browser.set.is_empty(), "once");
    for _ in 0..5 {
        site.let_pass(6 * DAY);
        assert_eq!(browser.get("/").status, 200);
    }
    assert!(!browser.is_owner(), "thirty days in all");
}

#[test]
fn what_the_owner_sees_is_never_cached() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.get("/").header("cache-control"), Some("private, no-cache"));
    assert_eq!(browser.get("/login").header("cache-control"), Some("no-store"));
    assert_eq!(browser.get("/tools/private").header("cache-control"), Some("no-store"));
    assert_eq!(browser.log_in(PASSWORD).header("cache-control"), Some("no-store"));
    for path in ["/", "/account", "/tools/private", "/tools/public/page", "/nowhere"] {
        assert_eq!(browser.get(path).header("cache-control"), Some("no-store"), "{path}");
    }
    assert_eq!(
        browser.get("/tools/public/kept").header("cache-control"),
        Some("private, max-age=60")
    );
    let css = browser.get("/static/site.css");
    assert_eq!(css.header("cache-control"), Some("public, no-cache"));
    assert_eq!(css.header("set-cookie"), None);
}
