//! The login from outside: what a browser does, and what an attacker tries, over the whole site.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use rusqlite::{Connection, Transaction};

use super::clock::now;
use super::facts::{fact, set_fact};
use super::gate::QUEUE_FOLDER;
use super::second_factor::code_at;
use super::secrets::Secrets;
use super::*;
use crate::http::base_path::BasePath;
use crate::server::Server;
use crate::settings::SiteSettings;
use crate::store::Store;
use crate::testing::{TestResponse, block_on, request, send};
use crate::{Access, Page, Runs, ServerFacts, Template, Tool};

const PASSWORD: &str = "correct horse battery";

/// The same in a form.
const TYPED: &str = "correct+horse+battery";

const TOOLS: &[Tool] = &[
    Tool { name: "private", title: "Private", access: Access::Named, ..TOOL },
    Tool { name: "public", title: "Public", ..TOOL },
];

const TOOL: Tool = Tool {
    name: "",
    title: "",
    summary: "A tool for tests.",
    icon: "tool",
    access: Access::Open,
    runs: Runs::Inline,
    pages: &[Template {
        name: "public/page.html",
        source: "{% extends \"frame.html\" %}{% block main %}<form><input name=\"csrf\" value=\"{{ csrf }}\">\
                 </form>owner: {{ is_owner }}{% endblock %}",
    }],
    router: || {
        Router::new()
            .route("/", get(async || "the tool").post(async |body: String| format!("got {body}")))
            .route(
                "/page",
                get(async |page: Page| page.show("public/page.html", tera::Context::new())),
            )
            .route("/kept", get(async || ([(CACHE_CONTROL, "private, max-age=60")], "kept")))
    },
};

/// A site in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
    router: Router,
}

impl Site {
    fn new() -> Self {
        Site::with(|login| login.password = Password::clear(PASSWORD))
    }

    fn with(change: impl FnOnce(&mut LoginSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut login = LoginSettings::in_folder(folder.path().join("data"));
        change(&mut login);
        let router = router_of(login);
        Site { folder, router }
    }

    /// The same site as another process serves it, with other settings.
    fn again(&self, change: impl FnOnce(&mut LoginSettings)) -> Router {
        let mut login = LoginSettings::in_folder(self.folder.path().join("data"));
        login.password = Password::clear(PASSWORD);
        change(&mut login);
        router_of(login)
    }

    fn store(&self) -> Store {
        LoginSettings::in_folder(self.folder.path().join("data")).store()
    }

    /// Makes everything the store remembers look so many seconds older.
    fn let_pass(&self, seconds: i64) {
        let older = |store: &Transaction<'_>| {
            store.execute("UPDATE sessions SET begun = begun - ?1, seen = seen - ?1", [seconds])?;
            store.execute("UPDATE events SET at = at - ?1", [seconds])?;
            store.execute("UPDATE attempts SET last = last - ?1", [seconds])
        };
        block_on(self.store().write(older)).unwrap();
    }
}

fn router_of(login: LoginSettings) -> Router {
    let settings = SiteSettings {
        login: Some(login),
        hsts: Duration::from_secs(60),
        ..SiteSettings::default()
    };
    crate::router_with(TOOLS, &settings.public(["public"]))
}

/// A browser: it keeps cookies as they are set, and says what it does.
struct Browser {
    router: Router,
    base: &'static str,
    address: &'static str,
    is_https: bool,
    cookies: BTreeMap<String, String>,
    /// The attributes of the cookies, as they came.
    set: Vec<String>,
}

impl Browser {
    fn new(router: &Router) -> Self {
        Browser {
            router: router.clone(),
            base: "",
            address: "192.0.2.1",
            is_https: false,
            cookies: BTreeMap::new(),
            set: Vec::new(),
        }
    }

    fn get(&mut self, path: &str) -> TestResponse {
        self.send("GET", path, &[], "")
    }

    fn post(&mut self, path: &str, form: &str) -> TestResponse {
        self.send("POST", path, &[("content-type", "application/x-www-form-urlencoded")], form)
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> TestResponse {
        let mut request = request(method, path)
            .header("host", "site.test")
            .header("accept", "text/html")
            .extension(Server(&FACTS))
            .extension(From_(self.address))
            .extension(OverTls(self.is_https))
            .extension(BasePath::new(self.base));
        if !self.cookies.is_empty() {
            let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
            request = request.header(COOKIE, pairs.collect::<Vec<_>>().join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = send(&self.router, request.body(Body::from(body.to_owned())).unwrap());
        self.set = response
            .headers
            .get_all(SET_COOKIE)
            .iter()
            .map(|line| line.to_str().unwrap().to_owned())
            .collect();
        for line in &self.set {
            let (pair, attributes) = line.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    /// Opens the form and sends it.
    fn log_in(&mut self, password: &str) -> TestResponse {
        self.log_in_and_go(password, "")
    }

    fn log_in_and_go(&mut self, password: &str, more: &str) -> TestResponse {
        let form = self.get("/login");
        let token = token(&form).to_owned();
        let password: String = form_urlencoded::byte_serialize(password.as_bytes()).collect();
        self.post("/login", &format!("csrf={token}&password={password}{more}"))
    }

    fn log_in_if_there_is_a_form(&mut self, password: &str) -> Option<TestResponse> {
        (self.get("/login").status == 200).then(|| self.log_in(password))
    }

    fn is_owner(&mut self) -> bool {
        self.get("/tools/private").status == 200
    }
}

/// The address of a request, in tests.
#[derive(Clone, Copy)]
struct From_(&'static str);

/// The password that came with a request, in tests.
#[derive(Clone, Copy)]
struct Sent(&'static str);

/// Whether the visitor uses HTTPS, in tests.
#[derive(Clone, Copy)]
struct OverTls(bool);

static FACTS: ServerFacts = ServerFacts {
    address: |extensions| extensions.get::<From_>()?.0.parse().ok(),
    is_https: |extensions| extensions.get::<OverTls>().is_some_and(|over_tls| over_tls.0),
    password: |extensions| Some(Ok(Password::clear(extensions.get::<Sent>()?.0)?)),
    ..*Server::SILENT.0
};

/// The first token in a page: that of its own form, or of the button that logs out.
fn token(response: &TestResponse) -> &str {
    let text = response.text();
    let (_, rest) =
        text.rsplit_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no form: {text}"));
    rest.split('"').next().unwrap()
}

fn location(response: &TestResponse) -> &str {
    response.header("location").unwrap_or("nowhere")
}

#[test]
fn the_password_opens_what_is_private_and_logging_out_closes_it() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    let refused = browser.get("/tools/private?a=b");
    assert_eq!(
        (refused.status.as_u16(), location(&refused)),
        (303, "/login?next=%2Ftools%2Fprivate%3Fa%3Db")
    );
    assert_eq!(browser.get("/tools/public").status, 200);
    assert!(!site.folder.path().join("data").exists(), "nothing is opened for the public");

    let front = browser.get("/");
    assert!(front.text().contains("/tools/public") && !front.text().contains("/tools/private"));
    assert!(front.text().contains("Log in") && !front.text().contains("Log out"));

    let entered = browser.log_in_and_go(PASSWORD, "&next=%2Ftools%2Fprivate");
    assert_eq!((entered.status.as_u16(), location(&entered)), (303, "/tools/private"));
    assert!(browser.is_owner());
    let front = browser.get("/");
    assert!(front.text().contains("/tools/private") && front.text().contains("Log out"));
    assert_eq!(location(&browser.get("/login?next=/tools/public")), "/tools/public");

    let out = browser.post("/logout", &format!("csrf={}", token(&front)));
    assert_eq!((out.status.as_u16(), location(&out)), (303, "/"));
    assert!(!browser.cookies.contains_key("toolshed") && !browser.is_owner());
}

#[test]
fn a_second_login_form_that_was_open_leads_on() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    let stale = token(&browser.get("/login")).to_owned();
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let again =
        browser.post("/login", &format!("csrf={stale}&next=%2Ftools%2Fprivate&password=wrong"));
    assert_eq!((again.status.as_u16(), location(&again)), (303, "/tools/private"));
    assert!(browser.is_owner());
}

#[test]
fn a_wrong_password_opens_nothing_and_says_so() {
    let site = Site::new();
    for wrong in
        ["", "wrong", "Correct horse battery", "correct horse batter", &"x".repeat(2000), "\0"]
    {
        // Each from another address, so that nobody has to wait.
        let mut browser = Browser::new(&site.router);
        let response = browser.log_in(wrong);
        assert_eq!(response.status, 401, "{wrong}");
        assert!(response.text().contains("Wrong password."), "{wrong}");
        assert!(!browser.is_owner());
        site.let_pass(4000);
    }
}

#[test]
fn programs_get_words_in_the_place_of_forms() {
    let site = Site::new();
    for (accept, kind) in
        [("*/*", "text/plain; charset=utf-8"), ("application/json", "application/json")]
    {
        let response = send(
            &site.router,
            request("GET", "/tools/private").header("accept", accept).body(Body::empty()).unwrap(),
        );
        assert_eq!(response.status, 401, "{accept}");
        assert_eq!(response.header("content-type"), Some(kind));
        assert!(response.header("www-authenticate").unwrap().contains("form-action=\"/login\""));
        assert!(response.text().contains("/login"), "{}", response.text());
    }
    let posted = Browser::new(&site.router).post("/tools/private", "a=b");
    assert_eq!(posted.status, 401);
}

#[test]
fn a_hash_opens_too() {
    let site = Site::with(|login| {
        let hash = Password::make_hash(PASSWORD).unwrap();
        login.password = Some(Password::from_hash(&hash).unwrap());
    });
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in("wrong").status, 401);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    assert!(browser.is_owner());
}

#[test]
fn a_password_that_comes_with_each_request_counts_unless_one_is_set() {
    let site = Site::with(|_| {});
    let ask = |router: &Router, sent, cookies: &str, path: &str| {
        let request = request("GET", path).header(COOKIE, cookies).header("accept", "text/html");
        send(
            router,
            request.extension(Server(&FACTS)).extension(Sent(sent)).body(Body::empty()).unwrap(),
        )
    };
    let log_in = |router: &Router, sent: &'static str, typed: &str| {
        let form = ask(router, sent, "", "/login");
        let cookie = form.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let request = request("POST", "/login")
            .header(COOKIE, cookie)
            .header("content-type", "application/x-www-form-urlencoded")
            .extension(Server(&FACTS))
            .extension(Sent(sent));
        let body = format!("csrf={}&password={typed}", token(&form));
        send(router, request.body(Body::from(body)).unwrap())
    };
    let entered = log_in(&site.router, "first", "first");
    assert_eq!(entered.status, 303);
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap();
    assert_eq!(ask(&site.router, "first", cookie, "/tools/private").status, 200);
    assert_eq!(
        ask(&site.router, "second", cookie, "/tools/private").status,
        303,
        "the password changed"
    );
    // Whoever reaches the socket cannot replace a password that is set in the configuration.
    let fixed = Site::new();
    assert_eq!(log_in(&fixed.router, "mine", "mine").status, 401);
    assert_eq!(log_in(&fixed.router, "mine", "correct+horse+battery").status, 303);
}

#[test]
fn without_a_password_the_page_says_how_to_set_one_and_nothing_opens() {
    let site = Site::with(|_| {});
    let mut browser = Browser::new(&site.router);
    let page = browser.get("/login");
    assert_eq!(page.status, 200);
    for words in ["toolshed set-password", "SetEnv APP_PASSWORD"] {
        assert!(page.text().contains(words), "{words}");
    }
    assert!(!page.text().contains("/set-up"));
    assert!(!page.text().contains(&*site.folder.path().to_string_lossy()));
    for password in ["", "x"] {
        let response = browser.post("/login", &format!("csrf=&password={password}"));
        assert_eq!(response.status, 403);
    }
    assert_eq!(browser.get("/set-up").status, 404);
}

#[test]
fn cookies_are_for_the_site_alone() {
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

/// Over HTTPS and for the whole host no neighbour can plant them; the new names log nobody out.
#[test]
fn cookies_that_no_neighbour_can_set() {
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
    // A neighbour's cookie with the plain name does not come before it.
    browser.cookies.insert("toolshed".to_owned(), "planted".to_owned());
    assert!(browser.is_owner());
    // Below a path browsers would refuse the name.
    let mut below = Browser { base: "/project", is_https: true, ..Browser::new(&site.router) };
    assert_eq!(below.log_in(PASSWORD).status, 303);
    assert!(below.cookies.contains_key("toolshed") && below.is_owner());
}

/// On a host where the visitor's path becomes BASE (a SCRIPT_NAME that ends in `.cgi`), `;Domain=` in it sent
/// the session to the whole parent domain.
#[test]
fn cookies_no_path_brings_an_attribute_of_its_own() {
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
        // With a form's token and cookie from elsewhere there is none either, nor for a session that is due.
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
    // The owner of such a folder says which path to use.
    let site = Site::with(|login| {
        login.password = Password::clear(PASSWORD);
        login.cookie_path = CookiePath::new("/");
    });
    let mut browser = Browser { base: "/my+site", ..Browser::new(&site.router) };
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    assert!(browser.set.iter().all(|cookie| cookie.contains("; Path=/;")), "{:?}", browser.set);
    assert!(browser.is_owner());
}

#[test]
fn fixation_a_session_has_a_number_that_nobody_knew_before() {
    let site = Site::new();
    let mut attacker = Browser::new(&site.router);
    assert_eq!(attacker.log_in(PASSWORD).status, 303);
    let planted = attacker.cookies["toolshed"].clone();
    // The victim's browser has got the attacker's cookie, and logs in.
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
    // One that a neighbour put before ours does not lock the owner out.
    let mut browser = Browser::new(&site.router);
    browser.cookies.insert("a".to_owned(), format!("b; toolshed=forged; toolshed={good}"));
    assert!(browser.is_owner());
    // Whoever reads a copy of the store cannot make a cookie of it.
    let row: Vec<u8> = block_on(
        site.store().read(|store| store.query_row("SELECT id FROM sessions", [], |row| row.get(0))),
    )
    .unwrap();
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

    // Used every six days it goes on, but not for longer than thirty.
    for _ in 0..4 {
        site.let_pass(6 * DAY);
        assert!(left.is_owner());
        assert!(
            left.set.iter().any(|cookie| cookie.starts_with("toolshed=")),
            "the cookie goes on, too"
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

/// What a clock that was ahead has recorded: a session lasts no longer because of it, and its cookie is still
/// prolonged.
#[test]
fn a_session_begun_while_the_clock_was_ahead_is_as_any_other() {
    const DAY: i64 = 24 * 3600;
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    site.let_pass(-365 * DAY);
    assert!(browser.is_owner());
    assert!(browser.set.iter().any(|cookie| cookie.starts_with("toolshed=")), "its cookie goes on");
    assert!(browser.is_owner() && browser.set.is_empty(), "once");
    for _ in 0..5 {
        site.let_pass(6 * DAY);
        assert_eq!(browser.get("/").status, 200);
    }
    assert!(!browser.is_owner(), "thirty days in all");
}

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
            ("a token in the address alone", &[FORM], String::new()),
        ] {
            let path = if what.contains("address") {
                format!("{path}?csrf={good}")
            } else {
                path.to_owned()
            };
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
    // Who is nobody can be made to do nothing: public tools work for programs as ever.
    assert_eq!(Browser::new(&site.router).post("/tools/public", "a=b").text(), "got a=b");
}

/// Another site's form comes without the session's cookie (`SameSite=Lax`), and its response must not remove
/// the cookie.
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

#[test]
fn the_login_leads_nowhere_else() {
    let site = Site::new();
    for (next, expected) in [
        ("%2Ftools%2Fpublic%3Fa%3Db", "/tools/public?a=b"),
        ("%2F%2Fevil.test", "/"),
        ("https%3A%2F%2Fevil.test", "/"),
        ("%2F%5Cevil.test", "/"),
        ("%2Fa%0D%0ASet-Cookie%3A+x%3Dy", "/"),
        ("%2Flogout", "/"),
    ] {
        let mut browser = Browser::new(&site.router);
        let response = browser.log_in_and_go(PASSWORD, &format!("&next={next}"));
        assert_eq!((response.status.as_u16(), location(&response)), (303, expected), "{next}");
        assert_eq!(location(&browser.get(&format!("/login?next={next}"))), expected, "{next}");
    }
    // The host that a client claims stands in no link and in no redirect.
    let response =
        Browser::new(&site.router).send("GET", "/tools/private", &[("host", "evil.test")], "");
    assert!(location(&response).starts_with("/login?"));
}

#[test]
fn oversize_forms_and_odd_paths_open_nothing() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    let token = token(&browser.get("/login")).to_owned();
    let large = format!("csrf={token}&password={}", "x".repeat(64 * 1024));
    assert_eq!(browser.post("/login", &large).status, 413);
    for path in [
        "/tools/private/",
        "/tools//private",
        "/tools/./private",
        "/tools/public/../private",
        "/tools/public/%2e%2e/private",
        "/tools/%70rivate",
        "/tools/private%2F",
        "/tools/PRIVATE",
        "//tools/private",
        "/account",
        "/account/second-factor",
    ] {
        let response = browser.get(path);
        assert!(!response.text().contains("the tool"), "{path}");
        assert!(
            response.status.is_redirection() || response.status == 404,
            "{path}: {}",
            response.status
        );
    }
}

#[test]
fn brute_force_is_slowed_down_by_all_processes_together() {
    let site = Site::new();
    // Eight processes, each with a connection of its own; what they share is the folder.
    let processes: Vec<_> = (0..8).map(|_| site.again(|_| {})).collect();
    let looked_at = Mutex::new(0);
    let mut last = None;
    for round in 0..5 {
        for router in &processes {
            let mut browser = Browser::new(router);
            let response = browser.log_in(&format!("guess {round}"));
            match response.status.as_u16() {
                401 => *looked_at.lock().unwrap() += 1,
                429 => last = Some(response),
                other => panic!("{other}"),
            }
        }
    }
    // Five are free; a guess or two more, if the test takes some seconds.
    let looked_at = looked_at.into_inner().unwrap();
    assert!((5..=13).contains(&looked_at), "{looked_at}");
    let refused = last.expect("guesses are refused");
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&seconds));
    assert!(refused.text().contains("Try again in"), "{}", refused.text());
    // While one has to wait the right password is not looked at either.
    let mut owner = Browser::new(&processes[0]);
    assert_eq!(owner.log_in(PASSWORD).status, 429);
    // Another address does not wait.
    let mut elsewhere = Browser { address: "198.51.100.7", ..Browser::new(&processes[0]) };
    assert_eq!(elsewhere.log_in(PASSWORD).status, 303);
    // Nor does a browser that was let in before, from the guesser's address.
    let front = elsewhere.get("/");
    elsewhere.post("/logout", &format!("csrf={}", token(&front)));
    elsewhere.address = "192.0.2.1";
    assert_eq!(elsewhere.log_in(PASSWORD).status, 303);
    site.let_pass(300);
    assert_eq!(owner.log_in(PASSWORD).status, 303);
}

/// As behind mod_fcgid: who fills it are other processes.
#[test]
fn a_full_queue_of_password_checks_costs_neither_a_try_nor_a_write() {
    let site = Site::with(|login| {
        let hash = Password::make_hash(PASSWORD).unwrap();
        login.password = Some(Password::from_hash(&hash).unwrap());
    });
    let mut browser = Browser::new(&site.router);
    let mut try_password = |password: &str| {
        let form = browser.get("/login");
        let body = format!("csrf={}&password={password}", token(&form));
        crate::store::statements::take();
        let response = browser.post("/login", &body);
        (response, crate::store::statements::take().join("\n"))
    };
    assert_eq!(try_password("wrong").0.status, 401);
    let tries = || {
        let tries = |store: &Connection| {
            store.query_row("SELECT total(failures) FROM attempts", [], |row| row.get::<_, f64>(0))
        };
        block_on(site.store().read(tries)).unwrap()
    };
    let before = tries();
    let queue = site.folder.path().join("data").join(QUEUE_FOLDER);
    let places = (1..=6).map(|place| {
        let file = std::fs::File::create(queue.join(place.to_string())).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    });
    let places: Vec<_> = places.collect();
    for _ in 0..20 {
        let (response, asked) = try_password(TYPED);
        assert_eq!((response.status.as_u16(), response.header("retry-after")), (503, Some("5")));
        assert!(
            !["EXCLUSIVE", "INSERT", "UPDATE"].iter().any(|word| asked.contains(word)),
            "{asked}"
        );
    }
    assert_eq!(tries(), before);
    // Who has to wait anyway hears that.
    let many = "UPDATE attempts SET failures = 9 WHERE who = '192.0.2.1'";
    block_on(site.store().write(|store| store.execute(many, []))).unwrap();
    assert_eq!(try_password(TYPED).0.status, 429);
    site.let_pass(300);
    drop(places);
    assert_eq!(try_password(TYPED).0.status, 303);
}

/// Others have used up what all unknown browsers have: the page asks for a turn by itself, and gets one.
#[test]
fn in_a_crowd_the_login_waits_for_its_turn() {
    let site = Site::new();
    let mut owner = Browser::new(&site.router);
    assert_eq!(owner.get("/login").status, 200);
    let full = |store: &Transaction<'_>| {
        store.execute("INSERT INTO attempts (who, failures, last) VALUES ('all', 60, ?1)", [now()])
    };
    block_on(site.store().write(full)).unwrap();
    let mut known = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    let waits = owner.get("/login?next=%2Ftools%2Fprivate&signed=%22");
    assert_eq!(waits.status, 429);
    let seconds: i64 = waits.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds));
    let again = "url=/login?next=%2Ftools%2Fprivate&amp;signed=%22\"";
    assert!(waits.text().contains(again), "{}", waits.text());
    let text = waits.text();
    assert!(text.contains("http-equiv=\"refresh\"") && !text.contains("type=\"password\""));
    // The owner has won this round's draw and the next one's, in case one ends just now.
    let win = |store: &Transaction<'_>| {
        let round = now() / draw::ROUND_SECONDS;
        for round in [round - 1, round] {
            store.execute("DELETE FROM draws WHERE round = ?1", [round])?;
            store.execute(
                "INSERT INTO draws (round, lot, who) VALUES (?1, x'00', '192.0.2.1')",
                [round],
            )?;
        }
        Ok(())
    };
    let lose = |store: &Transaction<'_>| store.execute("DELETE FROM draws", []);
    block_on(site.store().write(win)).unwrap();
    let turn = owner.get("/login");
    assert_eq!(turn.status, 200);
    assert!(turn.text().contains("It is your turn"), "{}", turn.text());
    assert!(known.log_in_if_there_is_a_form(PASSWORD).is_none(), "another waits");
    assert!(owner.get("/login").text().contains("It is your turn"), "loading it again is no harm");
    assert_eq!(owner.log_in("wrong").status, 401);
    block_on(site.store().write(lose)).unwrap();
    assert_eq!(owner.get("/login").status, 429, "one try");
    block_on(site.store().write(win)).unwrap();
    assert_eq!(owner.log_in(PASSWORD).status, 303);
    // From now on this browser is known and does not wait.
    let front = owner.get("/");
    owner.post("/logout", &format!("csrf={}", token(&front)));
    assert_eq!(owner.log_in(PASSWORD).status, 303);
    known.address = "192.0.2.1";
    assert!(known.log_in_if_there_is_a_form(PASSWORD).is_none(), "another browser does");
}

#[test]
fn what_the_owner_sees_is_kept_nowhere() {
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

#[test]
fn the_pages_have_no_inline_code_and_lead_below_the_base() {
    let site = Site::with(|login| {
        login.password = Password::clear(PASSWORD);
    });
    let unset = Site::with(|login| login.set_up_file = Some("toolshed.setup".into()));
    let mut owner = Browser { base: "/project", ..Browser::new(&site.router) };
    assert_eq!(owner.log_in(PASSWORD).status, 303);
    let mut visitor = Browser { base: "/project", ..Browser::new(&site.router) };
    let mut first = Browser { base: "/project", ..Browser::new(&unset.router) };
    let pages = [
        visitor.get("/login"),
        first.get("/login"),
        first.get("/set-up"),
        owner.get("/account"),
        owner.get("/account/second-factor"),
        owner.get("/nowhere"),
    ];
    for response in pages {
        let html = response.text();
        for forbidden in ["<style", " style=", "<script>", " onclick=", "javascript:"] {
            assert!(!html.contains(forbidden), "{forbidden} in {html}");
        }
        for attribute in ["href=\"/", "src=\"/", "action=\"/"] {
            for (at, _) in html.match_indices(attribute) {
                let link = &html[at + attribute.len() - 1..];
                assert!(link.starts_with("/project/"), "{}", &link[..link.len().min(60)]);
            }
        }
        let forms = html.matches("method=\"post\"").count();
        assert_eq!(html.matches("name=\"csrf\"").count(), forms, "every form has its token");
        for field in
            html.split("<input ").skip(1).filter(|field| !field.contains("type=\"hidden\""))
        {
            let id = field.split_once("id=\"").and_then(|(_, id)| id.split('"').next());
            let is_hidden = field.split('>').next().unwrap().contains(" hidden");
            let label = id.map(|id| format!("<label for=\"{id}\">"));
            assert!(is_hidden || label.is_some_and(|label| html.contains(&label)), "{field}");
        }
    }
}

#[test]
fn the_second_factor_is_asked_for_once_it_is_on() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let mut other = Browser::new(&site.router);
    assert_eq!(other.log_in(PASSWORD).status, 303);
    let page = browser.get("/account/second-factor");
    let key =
        page.text().split("<code>").nth(1).unwrap().split('<').next().unwrap().replace(' ', "");
    assert!(page.text().contains("<svg class=\"qr-code\""));
    let again = browser.get("/account/second-factor");
    assert!(again.text().contains(&key[..4]), "the key stays while the page is open");
    let csrf = token(&page).to_owned();
    let wrong = browser.post(
        "/account/second-factor",
        &format!("csrf={csrf}&action=on&password={TYPED}&code=000000"),
    );
    assert_eq!(wrong.status, 422);
    let code = code_at(&key, now());
    let on = browser.post(
        "/account/second-factor",
        &format!("csrf={csrf}&action=on&password={TYPED}&code={code}"),
    );
    assert_eq!(on.status, 200);
    let codes: Vec<_> = on
        .text()
        .split("<li><code>")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap().to_owned())
        .collect();
    assert_eq!(codes.len(), 10);
    assert!(browser.is_owner() && !other.is_owner(), "other sessions were begun without it");

    let mut fresh = Browser::new(&site.router);
    assert!(fresh.get("/login").text().contains("name=\"code\""));
    assert_eq!(fresh.log_in(PASSWORD).status, 401);
    assert_eq!(fresh.log_in_and_go(PASSWORD, &format!("&code={code}")).status, 401, "used already");
    assert_eq!(fresh.log_in_and_go("wrong", &format!("&code={}", codes[0])).status, 401);
    assert_eq!(
        fresh.log_in_and_go(PASSWORD, &format!("&code={}", codes[0])).status,
        303,
        "a wrong password used no code up"
    );
    let mut next = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    assert_eq!(
        next.log_in_and_go(PASSWORD, &format!("&code={}", codes[0])).status,
        401,
        "a recovery code counts once"
    );
    let code = code_at(&key, now() + 30);
    for (password, status) in [("wrong", 401), (PASSWORD, 303), (PASSWORD, 401)] {
        let mut browser = Browser { address: "198.51.100.8", ..Browser::new(&site.router) };
        let response = browser.log_in_and_go(password, &format!("&code={code}"));
        assert_eq!(response.status, status, "{password}: a code is no password, and counts once");
    }
    let account = fresh.get("/account");
    assert!(account.text().contains("9 recovery codes"));
    let off = fresh.post(
        "/account/second-factor",
        &format!("csrf={}&action=off&password={TYPED}&code={}", token(&account), codes[1]),
    );
    assert_eq!(location(&off), "/account?done#second-factor");
    assert_eq!(next.log_in(PASSWORD).status, 303);
}

/// A browser left open cannot change anything in the account.
#[test]
fn every_change_of_the_account_asks_for_the_password() {
    const NEW: &str = "new=another+long+one&again=another+long+one";
    let site = set_up_site();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let mut other = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    assert_eq!(other.log_in(PASSWORD).status, 303);
    let page = browser.get("/account/second-factor");
    let key =
        page.text().split("<code>").nth(1).unwrap().split('<').next().unwrap().replace(' ', "");
    let account = browser.get("/account");
    let csrf = token(&account).to_owned();
    let id = account.text().split("<option value=\"").nth(2).unwrap().split('"').next().unwrap();
    let code = || {
        // Each code counts once.
        let step = "UPDATE facts SET value = 0 WHERE name = 'totp_step'";
        block_on(site.store().write(|store| store.execute(step, []))).unwrap();
        code_at(&key, now())
    };
    let state = || {
        let counted = block_on(site.store().read(|store| {
            let one = |text| store.query_row(text, [], |row| row.get::<_, Option<Vec<u8>>>(0));
            let sessions = "SELECT CAST(count(*) AS BLOB) FROM sessions";
            Ok((one(sessions)?, one("SELECT min(hash) FROM recovery_codes")?))
        }));
        (counted.unwrap(), fact_of(&site, facts::PASSWORD), fact_of(&site, "totp_key"))
    };
    // Without the password or with a wrong one nothing changes; with the right one everything does.
    let mut change = |path: &str, fields: &dyn Fn() -> String, expected: u16| {
        for password in ["", "password=&", "password=wrong&"] {
            site.let_pass(400);
            let before = state();
            let form = format!("csrf={csrf}&{password}{}", fields());
            let refused = browser.post(path, &form);
            assert_eq!(refused.status, 422, "{path} {form}: {}", refused.text());
            assert_eq!(state(), before, "{path}");
        }
        site.let_pass(400);
        let form = format!("csrf={csrf}&password={TYPED}&{}", fields());
        let done = browser.post(path, &form);
        assert_eq!(done.status, expected, "{path} {form}: {}", done.text());
    };
    let second_factor = "/account/second-factor";
    change("/account/sessions", &|| format!("end={id}"), 303);
    change(second_factor, &|| format!("action=on&code={}", code()), 200);
    change(second_factor, &|| format!("action=codes&code={}", code()), 200);
    change(second_factor, &|| format!("action=off&code={}", code()), 303);
    change("/account/password", &|| NEW.to_owned(), 303);
    assert!(!other.is_owner() && browser.is_owner());
    let account = browser.get("/account");
    for what in [
        "Login from a new browser",
        "Session ended from another browser",
        "Second factor turned on",
        "Recovery codes replaced",
        "Second factor turned off",
        "Password changed",
    ] {
        assert!(account.text().contains(what), "{what}: {}", account.text());
    }
    let everywhere = |password: &str, account: &TestResponse| {
        format!("csrf={}&end=everywhere&password={password}", token(account))
    };
    assert_eq!(browser.post("/account/sessions", &everywhere(TYPED, &account)).status, 422);
    assert!(browser.is_owner());
    let ended = browser.post("/account/sessions", &everywhere("another+long+one", &account));
    assert_eq!((ended.status.as_u16(), browser.is_owner()), (303, false));
}

/// A site whose password is in the store.
fn set_up_site() -> Site {
    let site = Site::with(|_| {});
    let hash = Password::make_hash(PASSWORD).unwrap();
    let set = |store: &Transaction<'_>| set_fact(store, facts::PASSWORD, Some(&hash));
    block_on(site.store().write(set)).unwrap();
    site
}

#[test]
fn the_password_is_changed_where_it_is_the_sites_own() {
    let site = set_up_site();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let mut change = |new: &str, again: &str| {
        let account = browser.get("/account");
        let fields =
            [("csrf", token(&account)), ("password", PASSWORD), ("new", new), ("again", again)];
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        site.let_pass(400);
        browser.post("/account/password", &form)
    };
    for (new, again, words) in [
        ("elevenchars", "elevenchars", "12 characters"),
        ("Password2024!", "Password2024!", "too common"),
        ("a new long one", "another new one", "match."),
    ] {
        let refused = change(new, again);
        assert_eq!(refused.status, 422, "{new}");
        assert!(refused.text().contains(words), "{}", refused.text());
    }
    let changed = change("ein neues, langes", "ein neues, langes");
    assert_eq!(location(&changed), "/account?done#password");
    assert!(browser.is_owner(), "under a new session");
    // It is shown after a change, and at no other time.
    let says_so =
        |browser: &mut Browser| browser.get("/account?done").text().contains("Password changed.");
    assert!(says_so(&mut browser) && !browser.get("/account").text().contains("Password changed."));
    site.let_pass(60);
    assert!(!says_so(&mut browser));
    let mut fresh = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    assert_eq!(fresh.log_in(PASSWORD).status, 401);
    assert_eq!(fresh.log_in("ein neues, langes").status, 303);

    // A password that is set elsewhere is not changed here.
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let account = browser.get("/account");
    assert!(!account.text().contains("/account/password"));
    let form = format!(
        "csrf={}&password={TYPED}&new=a+new+long+one&again=a+new+long+one",
        token(&account)
    );
    assert_eq!(browser.post("/account/password", &form).status, 409);
    assert_eq!(fact_of(&site, facts::PASSWORD), None);
}

fn fact_of(site: &Site, name: &'static str) -> Option<String> {
    block_on(site.store().read(|store| fact(store, name))).unwrap()
}

#[test]
fn sessions_are_listed_and_ended_one_by_one() {
    const FIREFOX: (&str, &str) =
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");
    let site = Site::new();
    let mut here = Browser::new(&site.router);
    assert_eq!(here.log_in(PASSWORD).status, 303);
    let mut there = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    let csrf = token(&there.get("/login")).to_owned();
    let form = format!("csrf={csrf}&password={TYPED}");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    assert_eq!(there.send("POST", "/login", &[kind, FIREFOX], &form).status, 303);
    let account = here.get("/account");
    let text = account.text();
    assert_eq!(text.matches("this one").count(), 1, "{text}");
    assert!(text.contains("Firefox on Linux") && text.contains("198.51.100.7, logged in just now"));
    // The cookie's number is not in the page, nor can another one's be guessed from it.
    let id = text.split("<option value=\"").nth(2).unwrap().split('"').next().unwrap().to_owned();
    let mut thief = Browser::new(&site.router);
    thief.cookies.insert("toolshed".to_owned(), id.clone());
    assert!(!thief.is_owner());
    let end = |id: &str| format!("csrf={}&end={id}&password={TYPED}", token(&account));
    assert_eq!(here.post("/account/sessions", &end("nonsense")).status, 422);
    assert!(there.is_owner());
    assert_eq!(
        here.post("/account/sessions", &end("")).status,
        422,
        "nothing is chosen beforehand"
    );
    assert!(here.is_owner() && there.is_owner());
    let ended = here.post("/account/sessions", &end(&id));
    assert_eq!(location(&ended), "/account?done#end-sessions");
    assert!(here.is_owner() && !there.is_owner());
    assert!(here.get("/account?done").text().contains("That browser has been logged out."));
    assert_eq!(here.post("/account/sessions", &end(&id)).status, 422, "it has ended already");
}

/// Otherwise the response time tells an attacker that the password was right.
#[test]
fn with_a_second_factor_a_right_password_is_as_much_work_as_a_wrong_one() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let secrets = Secrets::load(&site.folder.path().join("data/secret.key")).unwrap();
    let key = second_factor::seal("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", &secrets);
    block_on(site.store().write(|store| {
        set_fact(store, "totp_key", Some(&key))?;
        store.execute("INSERT INTO recovery_codes (hash) VALUES (x'00')", [])
    }))
    .unwrap();
    let asked = |password: &str, code: &str| {
        let mut guesser = Browser { address: "203.0.113.9", ..Browser::new(&site.router) };
        site.let_pass(4000);
        let form = guesser.get("/login");
        let body = format!("csrf={}&password={password}&code={code}", token(&form));
        crate::store::statements::take();
        let response = guesser.post("/login", &body);
        assert_eq!(response.status, 401);
        (response.text().len(), crate::store::statements::take())
    };
    let wrong = asked("wrong", "000000");
    assert!(wrong.1.len() > 5, "{wrong:?}");
    for code in ["000000", "", "aaaa-bbbb-cccc-dddd"] {
        assert_eq!(asked("correct+horse+battery", code), wrong, "{code:?}");
    }
}

#[test]
fn the_first_visit_sets_a_password_once() {
    const TOKEN: &str = "a text that only the owner uploads";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("toolshed.setup");
    let site = Site::with(|login| login.set_up_file = Some(file.clone()));
    let mut browser = Browser::new(&site.router);
    assert!(browser.get("/login").text().contains("href=\"/set-up\""));
    let page = browser.get("/set-up");
    assert!(
        page.text().contains("toolshed.setup")
            && !page.text().contains(&*folder.path().to_string_lossy())
    );
    let csrf = token(&page).to_owned();
    let mut set = |token: &str, password: &str, again: &str| {
        let fields =
            [("csrf", csrf.as_str()), ("token", token), ("password", password), ("again", again)];
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        site.let_pass(4000);
        browser.post("/set-up", &form)
    };
    let refused = |response: TestResponse, words: &str| {
        assert_eq!(response.status, 422, "{words}");
        assert!(response.text().contains(words), "{}", response.text());
    };
    refused(set("", PASSWORD, PASSWORD), "has not arrived");
    std::fs::write(&file, "short").unwrap();
    refused(set("short", PASSWORD, PASSWORD), "shorter than 16");
    std::fs::write(&file, format!("\n{TOKEN}\r\n")).unwrap();
    refused(set("a guess of the right kind", PASSWORD, PASSWORD), "not the text");
    refused(set(TOKEN, "elevenchars", "elevenchars"), &format!("value=\"{TOKEN}\""));
    refused(set(TOKEN, "elevenchars", "elevenchars"), "12 characters");
    refused(set(TOKEN, "Password2024!", "Password2024!"), "too common");
    refused(set(TOKEN, PASSWORD, "another password"), "match.");
    let done = set(TOKEN, PASSWORD, PASSWORD);
    assert_eq!((done.status.as_u16(), location(&done)), (303, "/"));
    assert!(!file.exists());
    assert!(browser.is_owner());

    std::fs::write(&file, TOKEN).unwrap();
    let mut attacker = Browser::new(&site.router);
    assert_eq!(attacker.get("/set-up").status, 404);
    assert_eq!(attacker.post("/set-up", &format!("csrf=x&token={TOKEN}")).status, 404);
    let mut later = Browser::new(&site.router);
    assert_eq!(later.log_in(PASSWORD).status, 303);
}

#[test]
fn too_many_tries_at_the_set_up_page_are_said_on_it() {
    const GUESS: &str = "a guess of the right kind";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("toolshed.setup");
    std::fs::write(&file, "a text that only the owner uploads").unwrap();
    let site = Site::with(|login| login.set_up_file = Some(file));
    let mut browser = Browser::new(&site.router);
    let csrf = token(&browser.get("/set-up")).to_owned();
    let form = format!("csrf={csrf}&token={}&password={TYPED}", GUESS.replace(' ', "+"));
    let mut tries = std::iter::repeat_with(|| browser.post("/set-up", &form)).take(10);
    let waits = tries.find(|response| response.status != 422).expect("nobody guesses for ever");
    assert_eq!(waits.status, 429);
    assert!(waits.header("retry-after").is_some());
    for words in ["Too many attempts. Try again in", "action=\"/set-up\"", GUESS] {
        assert!(waits.text().contains(words), "{words}: {}", waits.text());
    }
}

#[test]
fn a_store_that_cannot_be_used_is_said_in_the_log_and_public_pages_stay() {
    let site = Site::with(|login| {
        login.password = Password::clear(PASSWORD);
        login.data = "/proc/nowhere".into();
    });
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.get("/tools/public").status, 200);
    let response = browser.get("/login");
    assert_eq!(response.status, 503);
    assert!(!response.text().contains("/proc"), "{}", response.text());
}

#[test]
fn a_made_up_password_stays_the_same_and_can_be_typed() {
    let site = Site::with(|_| {});
    let login = LoginSettings::in_folder(site.folder.path().join("data"));
    let made_up = login.make_up_password().unwrap();
    assert!(!login.data.exists(), "a start that fails leaves nothing behind");
    made_up.keep().unwrap();
    let password = made_up.password();
    assert_eq!(password, login.make_up_password().unwrap().password());
    assert_eq!(password.len(), 24);
    assert!(
        password
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    );
    let other = LoginSettings::in_folder(site.folder.path().join("other"));
    assert_ne!(password, other.make_up_password().unwrap().password());
}
