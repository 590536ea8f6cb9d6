//! The login around an application of somebody's own.

use axum::middleware::from_fn;
use axum::response::Html;
use http::StatusCode;
use http::header::CONTENT_SECURITY_POLICY;

use super::*;
use crate::{around, owner_only};

fn app() -> Router {
    let private = Router::new()
        .route("/admin", get(async || Html("the owner's")).post(async || "changed"))
        .route_layer(from_fn(owner_only));
    Router::new()
        .route("/", get(async || Html("the app")).post(async || "sent"))
        .route("/who", get(async |visitor: Visitor| format!("owner: {}", visitor.is_owner())))
        .route("/static/{name}", get(async || "the app's own file"))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .nest("/nested", private.clone())
        .merge(private)
}

/// The application with a login, and the folder of its data.
fn guarded() -> (tempfile::TempDir, Router) {
    let folder = tempfile::tempdir().unwrap();
    let mut login = login_in(&folder.path().join("data"));
    login.password = Password::clear(PASSWORD);
    let known = vec![login.store().schema()];
    let settings = SiteSettings { login: Some(login), ..SiteSettings::default() };
    let router = around(app(), &settings, known);
    (folder, router)
}

#[test]
fn what_is_the_owners_asks_for_the_login_and_the_rest_is_the_apps() {
    let (_folder, router) = guarded();
    let mut browser = Browser::new(&router);
    let front = browser.get("/");
    assert_eq!((front.status.as_u16(), front.text()), (200, "the app"));
    assert!(!front.headers.contains_key(CONTENT_SECURITY_POLICY), "its headers are its own");
    assert_eq!(browser.get("/who").text(), "owner: false");
    assert_eq!(browser.get("/static/of-the-app.css").text(), "the app's own file");

    let asked = browser.get("/admin");
    assert_eq!(asked.status, 303);
    assert_eq!(asked.header("location"), Some("/login?next=%2Fadmin"));
    let nested = browser.get("/nested/admin?a=b");
    assert_eq!(nested.header("location"), Some("/login?next=%2Fnested%2Fadmin%3Fa%3Db"));
    let script = request("GET", "/admin").header("accept", "application/json");
    assert_eq!(send(&router, script.body(Body::empty()).unwrap()).status, 401);
    assert_eq!(browser.post("/admin", "").status, 401);

    let form = browser.get("/login");
    assert!(form.headers.contains_key(CONTENT_SECURITY_POLICY));
    let style = form.text().split('"').find(|word| word.contains("/static/site.css")).unwrap();
    assert_eq!(browser.get(style).header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(browser.log_in("wrong, and long enough").status, 401);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let page = browser.get("/admin");
    assert_eq!((page.status.as_u16(), page.text()), (200, "the owner's"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(browser.get("/who").text(), "owner: true");
    assert_eq!(browser.get("/account").status, 200);
    let mut other = Browser::new(&router);
    assert_eq!(other.get("/admin").status, 303);
}

#[test]
fn another_site_changes_nothing_in_the_owners_name() {
    let (_folder, router) = guarded();
    let mut browser = Browser::new(&router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    for (headers, status) in [
        (&[("sec-fetch-site", "same-origin")] as &[_], 200),
        (&[("origin", "http://site.test")], 200),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("origin", "https://evil.test")], 403),
    ] {
        for path in ["/admin", "/"] {
            let response = browser.send("POST", path, headers, "");
            assert_eq!(response.status.as_u16(), status, "{path} {headers:?}");
        }
    }
    // The login's own forms have a token.
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(browser.send("POST", "/logout", &headers, "csrf=wrong").status, 403);
    assert_eq!(browser.get("/who").text(), "owner: true");
}

#[test]
fn a_failure_without_a_page_gets_one() {
    let (_folder, router) = guarded();
    let mut browser = Browser::new(&router);
    for (path, status) in [("/nowhere", 404), ("/broken", 500)] {
        let page = browser.get(path);
        assert_eq!(page.status.as_u16(), status);
        assert!(page.text().contains("<h1>"), "{}", page.text());
        assert!(page.headers.contains_key(CONTENT_SECURITY_POLICY), "the page is not the app's");
    }
    assert_eq!(browser.get("/healthz").text(), "ok");
    assert_eq!(browser.get("/readyz").text(), "ok");
}

#[test]
fn without_the_login_around_it_nobody_passes() {
    let mut browser = Browser::new(&app());
    assert_eq!(browser.get("/admin").status, 500);
}
