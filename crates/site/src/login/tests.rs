//! The login from outside: what a browser does, and what an attacker tries, over the whole site.
//!
//! The site and the browser of all these tests are here; the tests are in `tests/`, by subject.

mod account;
mod around_app;
mod cookies;
mod faults;
mod forgery;
mod logging_in;
mod on_postgres;
mod sessions;
mod set_up;
mod statements;
mod store_page;
mod throttle;
mod tool_tables;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use storage::{FromRow, Store, Trust, Value, params};

use super::clock::now;
use super::facts::{fact, set_fact};
use super::gate::QUEUE_FOLDER;
use super::second_factor::code_at;
use super::secrets::Secrets;
use super::*;
use crate::http::base_path::BasePath;
use crate::server::Server;
use crate::settings::SiteSettings;
use crate::testing::{TestResponse, block_on, login_in, request, send};
use crate::{Access, Page, Runs, ServerFacts, Template, Tool};

const PASSWORD: &str = "correct horse battery";

/// The password as a form encodes it.
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
    tables: &[],
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

/// A site with its own folder.
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
        let mut login = login_in(&folder.path().join("data"));
        change(&mut login);
        let router = router_of(login);
        Site { folder, router }
    }

    /// The same site as served by another process, with other settings.
    fn again(&self, change: impl FnOnce(&mut LoginSettings)) -> Router {
        let mut login = login_in(&self.folder.path().join("data"));
        login.password = Password::clear(PASSWORD);
        change(&mut login);
        router_of(login)
    }

    fn store(&self) -> Store {
        login_in(&self.folder.path().join("data")).store()
    }

    /// Makes everything in the store look this many seconds older.
    fn let_pass(&self, seconds: i64) {
        self.execute("UPDATE sessions SET begun = begun - $1, seen = seen - $1", params![seconds]);
        self.execute("UPDATE events SET at = at - $1", params![seconds]);
        self.execute("UPDATE attempts SET last = last - $1", params![seconds]);
    }

    fn execute(&self, sql: &str, values: &[Value<'_>]) {
        block_on(self.store().write(async |store| store.execute(sql, values).await)).unwrap();
    }

    fn find<T: FromRow>(&self, sql: &str) -> T {
        block_on(self.store().read(async |store| store.query_one(sql, &[]).await)).unwrap()
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

/// A browser: it stores cookies and sends them back.
struct Browser {
    router: Router,
    base: &'static str,
    address: &'static str,
    is_https: bool,
    cookies: BTreeMap<String, String>,
    /// The attributes of the cookies, as received.
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
    // With several threads, as in a test, no child can hash passwords.
    serves_one_request: |_| true,
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

/// A store with the login's tables.
pub(super) fn store_in(folder: &Path) -> Store {
    login_in(folder).store()
}

/// A hash of [`PASSWORD`].
static HASH: LazyLock<String> = LazyLock::new(|| Password::make_hash(PASSWORD).unwrap());

/// A site whose password is in the store.
fn set_up_site() -> Site {
    let site = Site::with(|_| {});
    let hash = HASH.as_str();
    let set = site.store();
    let set = set.write(async |store| set_fact(store, facts::PASSWORD, Some(hash)).await);
    block_on(set).unwrap();
    site
}

fn fact_of(site: &Site, name: &'static str) -> Option<String> {
    block_on(site.store().read(async |store| fact(store, name).await)).unwrap()
}
