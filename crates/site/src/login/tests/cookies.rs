//! Cookies: where they are valid, and that no path or neighbor changes that.

use super::*;

#[test]
fn cookies_are_for_the_site_only() {
    for (base, path) in [("", "Path=/;"), ("/project", "Path=/project;")] {
        let site = Site::new();
        let mut browser = Browser { base, ..Browser::new(&site.router) };
        assert_eq!(browser.log_in(PASSWORD).status, 303);
        assert_eq!(browser.set.len(), 3);
        for cookie in &browser.set {
            for part in ["HttpOnly", "SameSite=Lax", path] {
                assert!(format!("{cookie};").contains(part), "{base}: {part} in {cookie}");
            }
            assert!(!cookie.contains("Secure") && !cookie.contains("Domain"), "{cookie}");
        }
    }
    static OVER_TLS: ServerFacts = ServerFacts { is_https: |_| true, ..*Server::SILENT.0 };
    let site = Site::new();
    let request =
        request("GET", "/login").header("accept", "text/html").extension(Server(&OVER_TLS));
    let response = send(&site.router, request.body(Body::empty()).unwrap());
    let cookie = response.header("set-cookie").unwrap();
    assert!(cookie.contains("; Secure") && cookie.starts_with("__Host-toolshed-form="), "{cookie}");
    assert_eq!(response.header("strict-transport-security"), Some("max-age=60"));
    assert_eq!(Browser::new(&site.router).get("/").header("strict-transport-security"), None);
}

/// Over HTTPS and for the whole host no neighbor can set them; the new names log nobody out.
#[test]
fn cookies_that_no_neighbor_can_set() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    assert!(browser.cookies.contains_key("toolshed"));
    browser.is_https = true;
    assert!(browser.is_owner(), "by the cookie it has");
    site.let_pass(600);
    assert!(browser.is_owner() && browser.cookies.contains_key("__Host-toolshed"));
    let front = browser.get("/");
    browser.post("/logout", &format!("csrf={}", token(&front)));
    assert!(
        !browser.cookies.keys().any(|name| name.ends_with("toolshed")),
        "{:?}",
        browser.cookies
    );
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let names: Vec<_> = browser.cookies.keys().map(String::as_str).collect();
    assert_eq!(names, ["__Host-toolshed", "__Host-toolshed-known"]);
    assert!(browser.set.iter().all(|line| line.contains("; Path=/") && line.contains("; Secure")));
    assert!(browser.is_owner());
    // A neighbor's cookie with the plain name does not take precedence.
    browser.cookies.insert("toolshed".to_owned(), "planted".to_owned());
    assert!(browser.is_owner());
    // Below a path browsers would reject the name.
    let mut below = Browser { base: "/project", is_https: true, ..Browser::new(&site.router) };
    assert_eq!(below.log_in(PASSWORD).status, 303);
    assert!(below.cookies.contains_key("toolshed") && below.is_owner());
}

/// On a host where the visitor's path becomes BASE (a SCRIPT_NAME that ends in `.cgi`), `;Domain=` in it sent
/// the session to the whole parent domain.
#[test]
fn cookies_no_path_adds_an_attribute() {
    // A path with attribute separators is not a BASE at all: the site is at the root, and so is the cookie.
    for base in ["/;Domain=host.test;/x.cgi", "/my;site", "/a,b"] {
        let site = Site::new();
        let mut browser = Browser { base, ..Browser::new(&site.router) };
        assert_eq!(browser.log_in(PASSWORD).status, 303);
        let is_ours = |cookie: &String| cookie.contains("; Path=/;") && !cookie.contains("Domain");
        assert!(browser.set.iter().all(is_ours), "{base}: {:?}", browser.set);
    }
    for base in ["/my+site", "/a=b", "/a(b)", "/a&b"] {
        let site = Site::new();
        let mut browser = Browser { base, ..Browser::new(&site.router) };
        let page = browser.get("/login");
        assert_eq!((page.status.as_u16(), &*browser.set), (404, &[] as &[String]), "{base}");
        assert!(page.text().contains("set cookie_path"), "{}", page.text());
        // Nor is there one with a form's token and cookie from elsewhere, or for a session that is due.
        let mut elsewhere = Browser::new(&site.router);
        let token = token(&elsewhere.get("/login")).to_owned();
        elsewhere.base = base;
        let form = format!("csrf={token}&password=correct+horse+battery");
        assert_eq!(elsewhere.post("/login", &form).status, 404, "{base}");
        assert!(elsewhere.set.is_empty(), "{base}: {:?}", elsewhere.set);
        elsewhere.base = "";
        assert_eq!(elsewhere.log_in(PASSWORD).status, 303);
        site.let_pass(600);
        elsewhere.base = base;
        assert!(elsewhere.is_owner() && elsewhere.set.is_empty(), "{base}: {:?}", elsewhere.set);
    }
    // The owner of such a folder sets which path to use.
    let site = Site::with(|login| {
        login.password = Password::clear(PASSWORD);
        login.cookie_path = CookiePath::new("/");
    });
    let mut browser = Browser { base: "/my+site", ..Browser::new(&site.router) };
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    assert!(browser.set.iter().all(|cookie| cookie.contains("; Path=/;")), "{:?}", browser.set);
    assert!(browser.is_owner());
}
