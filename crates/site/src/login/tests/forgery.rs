//! Requests that other sites make the owner's browser send.

use super::*;

#[test]
fn forgery_another_sites_form_does_nothing() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let page = browser.get("/tools/public/page");
    assert!(page.text().contains("owner: true"));
    let good = token(&page).to_owned();
    let stolen = {
        let mut other = Browser::new(&site.router);
        assert_eq!(other.log_in(PASSWORD).status, 303);
        token(&other.get("/account")).to_owned()
    };
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    const CROSS: (&str, &str) = ("sec-fetch-site", "cross-site");
    const ORIGIN: (&str, &str) = ("origin", "https://evil.test");
    for path in [
        "/tools/private",
        "/tools/public",
        "/logout",
        "/account/sessions",
        "/account/password",
        "/account/second-factor",
    ] {
        for (what, headers, body) in [
            ("no token", &[FORM] as &[_], "a=b".to_owned()),
            ("an empty token", &[FORM], "csrf=&a=b".to_owned()),
            ("another session's token", &[FORM], format!("csrf={stolen}")),
            ("not the first field", &[FORM], format!("a=b&csrf={good}")),
            ("a token, but another site", &[FORM, CROSS], format!("csrf={good}")),
            ("a token, but another origin", &[FORM, ORIGIN], format!("csrf={good}")),
            ("a token in another form", &[("content-type", "text/plain")], format!("csrf={good}")),
            ("a token only in the URL", &[FORM], String::new()),
        ] {
            let path =
                if what.contains("URL") { format!("{path}?csrf={good}") } else { path.to_owned() };
            let response = browser.send("POST", &path, headers, &body);
            assert_eq!(response.status, 403, "{path}: {what}");
        }
        for method in ["PUT", "DELETE", "PATCH"] {
            assert_eq!(browser.send(method, path, &[], "").status, 403, "{method} {path}");
        }
    }
    assert!(browser.is_owner());
    let response = browser.post("/tools/private", &format!("csrf={good}&a=b"));
    assert_eq!(response.text(), format!("got csrf={good}&a=b"));
    let response = browser.send("POST", "/tools/private", &[("x-csrf-token", &good)], "a=b");
    assert_eq!(response.text(), "got a=b");
    // Anonymous requests are not checked: public tools work for programs as usual.
    assert_eq!(Browser::new(&site.router).post("/tools/public", "a=b").text(), "got a=b");
}

/// Another site's form arrives without the session's cookie (`SameSite=Lax`), and its response must not remove that
/// cookie.
#[test]
fn forgery_nobody_is_logged_out_by_another_site() {
    let site = Site::new();
    for headers in [
        &[] as &[(&str, &str)],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "http://other.site.test")],
        &[("origin", "null")],
    ] {
        for path in ["/logout", "/account/sessions"] {
            let mut from_elsewhere = Browser::new(&site.router);
            from_elsewhere.send("POST", path, headers, "");
            assert!(from_elsewhere.set.is_empty(), "{path} {headers:?}: {:?}", from_elsewhere.set);
        }
    }
}

#[test]
fn forgery_nobody_is_logged_in_by_another_site() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    let form = browser.get("/login");
    let good = token(&form).to_owned();
    let password = "password=correct+horse+battery";
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    for (headers, body) in [
        (&[FORM] as &[_], password.to_owned()),
        (&[FORM], format!("csrf=x&{password}")),
        (&[FORM, ("sec-fetch-site", "cross-site")], format!("csrf={good}&{password}")),
        (&[FORM, ("origin", "https://evil.test")], format!("csrf={good}&{password}")),
        (&[FORM, ("origin", "null")], format!("csrf={good}&{password}")),
    ] {
        assert_eq!(browser.send("POST", "/login", headers, &body).status, 403, "{body}");
    }
    let mut without_cookies = Browser::new(&site.router);
    let response = without_cookies.post("/login", &format!("csrf={good}&{password}"));
    assert_eq!(response.status, 403);
    assert!(response.text().contains("allow cookies"), "{}", response.text());
    assert!(!browser.is_owner());
}
