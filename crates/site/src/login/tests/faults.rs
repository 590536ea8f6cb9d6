//! Each statement of the store fails once, in each flow: the visitor gets a page, nothing is half done, and the next
//! attempt works.

use storage::faults::{fail_statement, take_back};

use super::*;

/// Runs a flow with the first statement failing, then with the second one, and so on, until none fails any more; each
/// time on a site of its own, and `check` looks at it afterwards. Returns how many statements there were.
fn sweep(
    make: impl Fn() -> Site,
    prepare: impl Fn(&mut Browser),
    flow: impl Fn(&mut Browser) -> TestResponse,
    check: impl Fn(&Site, &mut Browser, &TestResponse),
) -> u32 {
    for number in 1.. {
        let site = make();
        let mut browser = Browser::new(&site.router);
        prepare(&mut browser);
        fail_statement(number, || storage::StoreError::Full);
        let response = flow(&mut browser);
        let is_over = take_back();
        let status = response.status.as_u16();
        assert!(matches!(status, 200 | 303 | 503), "statement {number}: {status}");
        if status == 503 {
            assert!(response.text().contains("unavailable"), "{}", response.text());
        }
        check(&site, &mut browser, &response);
        if is_over {
            assert_ne!(status, 503);
            return number - 1;
        }
    }
    unreachable!("it would take 4 billion statements");
}

/// Sends the form of a page; if the page is an error, that is the result.
fn submit(browser: &mut Browser, page: &str, path: &str, fields: &str) -> TestResponse {
    let page = browser.get(page);
    if page.status != 200 {
        return page;
    }
    browser.post(path, &format!("csrf={}&{fields}", token(&page)))
}

fn can_log_in(site: &Site, password: &str) -> bool {
    Browser::new(&site.router).log_in(password).status == 303
}

fn log_in(browser: &mut Browser) {
    assert_eq!(browser.log_in(PASSWORD).status, 303);
}

#[test]
fn logging_in_with_failing_statements() {
    let count = sweep(
        Site::new,
        |_| {},
        |browser| submit(browser, "/login", "/login", &format!("password={TYPED}")),
        |site, browser, response| {
            assert_eq!(browser.is_owner(), response.status == 303);
            assert!(can_log_in(site, PASSWORD));
        },
    );
    assert!(count > 15, "{count} statements");
}

#[test]
fn logging_out_with_failing_statements() {
    let count = sweep(
        Site::new,
        log_in,
        |browser| submit(browser, "/", "/logout", ""),
        |site, browser, response| {
            // Never a page that says so while the session is still open.
            assert!(response.status == 503 || !browser.is_owner());
            assert!(can_log_in(site, PASSWORD));
        },
    );
    assert!(count > 4, "{count} statements");
}

#[test]
fn changing_the_password_with_failing_statements() {
    const TYPED_NEW: &str = "another+long+password";
    let count = sweep(
        set_up_site,
        log_in,
        |browser| {
            let fields = format!("password={TYPED}&new={TYPED_NEW}&again={TYPED_NEW}");
            submit(browser, "/account", "/account/password", &fields)
        },
        |site, _, response| {
            let changes: i64 =
                site.find("SELECT count(*) FROM events WHERE what = 'Password changed'");
            let is_old = fact_of(site, facts::PASSWORD).as_deref() == Some(&*HASH);
            assert_eq!(changes, i64::from(!is_old), "{}", response.status);
            assert!(!is_old || response.status != 303);
        },
    );
    assert!(count > 15, "{count} statements");
}

#[test]
fn the_account_page_with_failing_statements() {
    let count = sweep(
        Site::new,
        log_in,
        |browser| browser.get("/account"),
        |_, browser, _| assert!(browser.is_owner()),
    );
    assert!(count > 6, "{count} statements");
}
