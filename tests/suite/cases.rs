//! The table of cases for every web server: name, request, expectation.
//!
//! If a web server responds itself, without our program, the row has another expectation for that server, with the
//! reason. Nothing is skipped.

use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{Kind, Running};
use end_to_end::http_client::{Request, Response, Upload};

use crate::echo::Echo;

/// One row.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    what: What,
    exceptions: Vec<Exception>,
}

/// What a row does.
enum What {
    Ask(Request, Expect),
    /// Several requests, or one whose response is not read.
    Check(fn(&Running) -> Result<(), String>),
}

/// The expected response.
pub(crate) enum Expect {
    /// `test-app` got exactly this path, query, method and body.
    Echo,
    /// `test-app` got this path, and the rest as sent.
    EchoAt(&'static str),
    /// `test-app` got this header once, with this value.
    EchoHeader(&'static str, &'static str),
    /// `test-app` did not get this header.
    EchoWithout(&'static str),
    /// This status.
    Status(u16),
    /// 200 and this text.
    Text(&'static str),
    /// This status without a body.
    Bare(u16),
    /// 200 without a body.
    Head,
    /// 200 and this many bytes of the pattern.
    Pattern(u64),
    /// A redirect to this path below the base.
    Redirect(&'static str),
    /// A response that passes this check.
    Response(fn(&Running, &Response) -> Result<(), String>),
}

/// What one web server does differently, and why.
struct Exception {
    who: Kind,
    expect: Expect,
    why: &'static str,
}

impl Case {
    pub(crate) fn ask(name: &'static str, request: Request, expect: Expect) -> Self {
        Self { name, what: What::Ask(request, expect), exceptions: Vec::new() }
    }

    pub(crate) fn check(name: &'static str, check: fn(&Running) -> Result<(), String>) -> Self {
        Self { name, what: What::Check(check), exceptions: Vec::new() }
    }

    /// Adds what one web server does differently, and why.
    pub(crate) fn but(mut self, who: Kind, expect: Expect, why: &'static str) -> Self {
        assert!(!why.is_empty(), "{}: an exception needs a reason", self.name);
        self.exceptions.push(Exception { who, expect, why });
        self
    }

    /// Adds the status with which Apache responds itself if the owner has only .htaccess, and why.
    fn but_on_shared_apaches(self, status: u16, why: &'static str) -> Self {
        [Kind::ApacheFcgid, Kind::ApacheFcgidVirtual, Kind::ApacheCgi]
            .into_iter()
            .fold(self, |case, kind| case.but(kind, Expect::Status(status), why))
    }

    fn run(&self, running: &Running) -> Result<(), String> {
        match &self.what {
            What::Check(check) => check(running),
            What::Ask(request, expect) => {
                let exception = self.exceptions.iter().find(|row| row.who == running.kind);
                let sent = request.clone().below(running.base);
                let response = sent.send(running.address).map_err(|error| error.to_string())?;
                match exception {
                    None => expect.check(running, request, &response),
                    Some(row) => row
                        .expect
                        .check(running, request, &response)
                        .map_err(|error| format!("{error} (an exception: {})", row.why)),
                }
            }
        }
    }
}

impl Expect {
    fn check(&self, running: &Running, sent: &Request, response: &Response) -> Result<(), String> {
        let target = || String::from_utf8_lossy(&sent.target).into_owned();
        match self {
            Self::Echo => same_echo(running, sent, &target(), &Echo::read(response)?),
            Self::EchoAt(path) => same_echo(running, sent, path, &Echo::read(response)?),
            Self::EchoHeader(name, value) => {
                same("header", Echo::read(response)?.header(name), vec![*value])
            }
            Self::EchoWithout(name) => {
                same("header", Echo::read(response)?.header(name), Vec::<&str>::new())
            }
            Self::Status(status) => same("status", response.status, *status),
            Self::Text(text) => {
                same("status", response.status, 200)?;
                same("text", response.text(), *text)
            }
            Self::Head => {
                same("status", response.status, 200)?;
                same("body", response.body_bytes, 0)
            }
            Self::Bare(status) => {
                same("status", response.status, *status)?;
                same("body", response.body_bytes, 0)
            }
            Self::Pattern(bytes) => {
                same("status", response.status, 200)?;
                same("length", response.body_bytes, *bytes)?;
                same("checksum", response.sha256.clone(), Upload::Counted(*bytes).sha256())
            }
            Self::Redirect(path) => {
                same("redirect", (301..=308).contains(&response.status), true)?;
                let location = response.header("location").unwrap_or("nowhere");
                let target = format!("{}{path}", running.base);
                // Only the host may precede it.
                let rest = location.strip_suffix(target.as_str());
                match rest.map(|host| host.strip_prefix("http://").unwrap_or(host)) {
                    Some(host) if !host.contains('/') => Ok(()),
                    _ => Err(format!("a redirect to {location}, not to {target}")),
                }
            }
            Self::Response(check) => check(running, response),
        }
    }
}

fn same_echo(running: &Running, sent: &Request, target: &str, echo: &Echo) -> Result<(), String> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    same("base", echo.text("base"), Some(running.base))?;
    same("method", echo.text("method"), Some(sent.method.as_str()))?;
    same("path", echo.text("path"), Some(path))?;
    same("query", echo.text("query"), query)?;
    same("body length", echo.body_bytes(), Some(sent.body.bytes()))?;
    same("body checksum", echo.text("sha256"), Some(sent.body.sha256().as_str()))
}

/// Compares two values; the error says what differs.
pub(crate) fn same<L, R>(what: &str, found: L, wanted: R) -> Result<(), String>
where
    L: PartialEq<R> + std::fmt::Debug,
    R: std::fmt::Debug,
{
    if found == wanted {
        return Ok(());
    }
    Err(format!("{what} is {found:.200?}, not {wanted:.200?}"))
}

/// Runs all cases, checks our processes, and ends everything.
///
/// # Panics
///
/// With a list of all failures, if there are any.
pub(crate) fn run_all(running: Running, cases: Vec<Case>) {
    let mut failures = Vec::new();
    // mod_fcgid starts our program with the first request.
    let first = Case::ask("the first request", Request::get("/healthz"), Expect::Text("ok"));
    for case in [first].iter().chain(&cases) {
        let started = Instant::now();
        if let Err(error) = case.run(&running) {
            failures.push(format!("{}: {error}", case.name));
        }
        let took = started.elapsed();
        if took > Duration::from_secs(2) {
            println!("{}: {took:.1?}", case.name);
        }
        // After each case: a thread may live for only one request.
        if let Err(error) = running.check_tasks() {
            failures.push(format!("after {}: {error}", case.name));
        }
    }
    if !failures.is_empty() {
        eprintln!("{}", tail(&running.output()));
    }
    if let Err(error) = running.stop() {
        failures.push(format!("at the end: {error}"));
    }
    assert!(failures.is_empty(), "{} failures:\n  {}", failures.len(), failures.join("\n  "));
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().rev().take(30).collect();
    lines.into_iter().rev().map(|line| format!("{line}\n")).collect()
}

/// The cases for `test-app`.
pub(crate) fn table() -> Vec<Case> {
    [methods(), bodies(), paths(), queries(), headers(), responses(), many()]
        .into_iter()
        .flatten()
        .collect()
}

fn get(name: &'static str, target: &str) -> Case {
    Case::ask(name, Request::get(target), Expect::Echo)
}

fn methods() -> Vec<Case> {
    let with = |method: &str| Request::with_method(method, "/echo/method");
    vec![
        get("GET", "/echo/method"),
        Case::ask("HEAD", with("HEAD"), Expect::Head),
        Case::ask("PUT", with("PUT"), Expect::Echo),
        Case::ask("DELETE", with("DELETE"), Expect::Echo),
        Case::ask("PATCH", with("PATCH"), Expect::Echo),
        Case::ask("OPTIONS", with("OPTIONS"), Expect::Echo),
        Case::ask("the front page", Request::get("/"), Expect::Text("the front page")),
        Case::ask("healthz", Request::get("/healthz"), Expect::Text("ok")),
        Case::ask("404", Request::get("/no-such-page"), Expect::Status(404)),
        Case::ask("405", Request::post("/healthz", Upload::Counted(3)), Expect::Status(405)),
        Case::ask(
            "a static file is the web server's",
            Request::get("/static/from-the-file.txt"),
            Expect::Text("a static file\n"),
        )
        .but(Kind::Serve, Expect::Status(404), "there is no web server, and test-app has no files")
        .but(
            Kind::Haproxy,
            Expect::Status(404),
            "haproxy serves no files, and test-app has none",
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let counted = |bytes| Request::post("/echo/body", Upload::Counted(bytes));
    let chunked = |bytes| Request::post("/echo/body", Upload::Chunked(bytes));
    vec![
        Case::ask("POST of 0 bytes", counted(0), Expect::Echo),
        Case::ask("POST of 1 byte", counted(1), Expect::Echo),
        Case::ask("POST of 65,535 bytes", counted(65_535), Expect::Echo),
        Case::ask("POST of 65,536 bytes", counted(65_536), Expect::Echo),
        Case::ask("POST of 1 MiB", counted(1 << 20), Expect::Echo),
        Case::ask("POST of 64 MiB", counted(64 << 20), Expect::Echo),
        Case::ask("chunked POST of 0 bytes", chunked(0), Expect::Echo).but(
            Kind::Haproxy,
            Expect::Status(504),
            "haproxy 2.6 never sends the end of such a body",
        ),
        Case::ask("chunked POST of 1 byte", chunked(1), Expect::Echo),
        Case::ask("chunked POST of 1 MiB", chunked(1 << 20), Expect::Echo).but(
            Kind::Haproxy,
            Expect::Status(400),
            "haproxy 2.6 refuses bodies without a length that do not fit into its buffer",
        ),
        Case::ask(
            "a body that is not read",
            Request::post("/unread", Upload::Counted(4 << 20)),
            Expect::Text("not read"),
        ),
        Case::ask(
            "a body to a page that does not exist",
            Request::post("/no-such-page", Upload::Counted(1 << 20)),
            Expect::Status(404),
        ),
    ]
}

fn paths() -> Vec<Case> {
    let long_name = format!("/echo/{}", "n".repeat(3000));
    let many_names = format!("/echo/{}", vec!["s".repeat(99); 30].join("/"));
    let by_htaccess = "docs/rewriting.md";
    vec![
        get("an empty rest", "/echo/"),
        get("a deep path", "/echo/a/b/c/d/e/f/g/h"),
        get("%20 in the path", "/echo/a%20b"),
        get("+ in the path", "/echo/a+b"),
        get("%2F in the path", "/echo/a%2Fb").but_on_shared_apaches(
            404,
            "AllowEncodedSlashes is Off on shared hosts and no .htaccess can change it",
        ),
        get("%3F in the path", "/echo/a%3Fb?q=1"),
        get("%25 in the path", "/echo/a%25b"),
        get("%25 twice", "/echo/a%2525b"),
        get("%23 and %26 in the path", "/echo/a%23b%26c"),
        get("%0A in the path", "/echo/a%0Ab").but(
            Kind::Lighttpd,
            Expect::Status(400),
            "lighttpd refuses control characters in paths (url-ctrls-reject)",
        ),
        Case::ask("%00 in the path", Request::get("/echo/a%00b"), Expect::Echo)
            .but_on_shared_apaches(404, by_htaccess)
            .but(Kind::ApacheProxyFcgi, Expect::Status(404), "Apache refuses it in every path")
            .but(Kind::Nginx, Expect::Status(400), "nginx refuses it in every path")
            .but(Kind::Caddy, Expect::Status(400), "caddy refuses it in every path")
            .but(Kind::Lighttpd, Expect::Status(400), "lighttpd refuses it in every path"),
        get("UTF-8, encoded", "/echo/%E2%82%AC%C3%A4"),
        get("UTF-8, raw", "/echo/€ä")
            .but(Kind::Caddy, Expect::EchoAt("/echo/%E2%82%AC%C3%A4"), "caddy encodes them")
            .but(
                Kind::Haproxy,
                Expect::Status(400),
                "haproxy refuses unencoded characters (accept-invalid-http-request)",
            ),
        get("an encoded byte that is not UTF-8", "/echo/%FF").but(
            Kind::Lighttpd,
            Expect::Status(400),
            "lighttpd refuses overlong and broken UTF-8 in URLs",
        ),
        get("reserved characters", "/echo/;:@&=+$,!'()*~"),
        get("two slashes", "/echo//a//b"),
        Case::ask("dots", Request::get("/x/../echo/a"), Expect::Status(404)),
        get("a dot file's name", "/echo/.hidden"),
        get("a private file's name", "/echo/secret.key"),
        get("3,000 bytes in short names", &many_names),
        get("one name of 3,000 bytes", &long_name),
        Case::ask(
            "one name of 3,000 bytes in a folder that exists",
            Request::get(format!("/{}", "n".repeat(3000))),
            Expect::Status(404),
        )
        .but_on_shared_apaches(
            403,
            "Apache looks for a file of that name before any rule: ENAMETOOLONG",
        ),
    ]
}

fn queries() -> Vec<Case> {
    vec![
        get("a query", "/echo/q?x=1&y=2"),
        get("an empty query", "/echo/q?"),
        get("an encoded query", "/echo/q?x=%26%3D%20%2F%3F%25"),
        get("two question marks", "/echo/q??a"),
        get("brackets and stray percent signs", "/echo/q?a[]=1&b=%%&c=%zz"),
        get("an encoded zero in the query", "/echo/q?a=%00").but(
            Kind::Lighttpd,
            Expect::Status(400),
            "lighttpd refuses it anywhere in a URL",
        ),
        get("UTF-8 in the query", "/echo/q?a=%E2%82%AC"),
        get("a query of slashes", "/echo/q?/a//b/../c"),
        get("a query of 3,000 bytes", &format!("/echo/q?{}", "q".repeat(3000))),
    ]
}

fn headers() -> Vec<Case> {
    let with = |name, value| Request::get("/echo/headers").header(name, value);
    vec![
        Case::ask(
            "Authorization arrives",
            with("Authorization", "Bearer a b=c"),
            Expect::EchoHeader("authorization", "Bearer a b=c"),
        ),
        Case::ask(
            "no Authorization",
            Request::get("/echo/headers"),
            Expect::EchoWithout("authorization"),
        ),
        Case::ask(
            "Host arrives",
            Request::get("/echo/headers"),
            Expect::EchoHeader("host", "tools.test"),
        ),
        Case::ask(
            "an unknown header arrives",
            with("X-Some-Thing", "a, b"),
            Expect::EchoHeader("x-some-thing", "a, b"),
        ),
        Case::ask(
            "cookies arrive",
            with("Cookie", "a=b; c=d"),
            Expect::EchoHeader("cookie", "a=b; c=d"),
        ),
        Case::ask(
            "a Proxy header does not become HTTP_PROXY",
            with("Proxy", "http://evil.test"),
            Expect::EchoWithout("proxy"),
        )
        .but(
            Kind::Serve,
            Expect::EchoHeader("proxy", "http://evil.test"),
            "over HTTP, headers do not become variables",
        ),
        Case::ask(
            "a content type arrives",
            Request::post("/echo/headers", Upload::Text(b"{}".to_vec()))
                .header("Content-Type", "application/json"),
            Expect::EchoHeader("content-type", "application/json"),
        ),
        Case::ask(
            "a header of 6,000 bytes arrives",
            with("X-Long", Box::leak("v".repeat(6000).into_boxed_str())),
            Expect::Response(|_, response| {
                same("length", Echo::read(response)?.header("x-long").concat().len(), 6000)
            }),
        ),
    ]
}

fn responses() -> Vec<Case> {
    vec![
        Case::ask("a response of 1 MiB", Request::get("/large?mib=1"), Expect::Pattern(1 << 20)),
        Case::ask("a response of 64 MiB", Request::get("/large?mib=64"), Expect::Pattern(64 << 20)),
        Case::ask("a slow response", Request::get("/slow?milliseconds=300"), Expect::Text("slow")),
        Case::ask(
            "two cookies",
            Request::get("/head/cookies"),
            Expect::Response(|_, response| {
                let cookies = response.headers.iter().filter(|(name, _)| name == "set-cookie");
                let values: Vec<_> = cookies.map(|(_, value)| value.as_str()).collect();
                same("cookies", values, vec!["a=1; Path=/; HttpOnly", "b=2"])?;
                same("text", response.text(), "baked")
            }),
        ),
        Case::ask(
            "a redirect arrives unchanged",
            Request::get("/head/elsewhere"),
            Expect::Response(|_, response| {
                same("status", response.status, 303)?;
                same("location", response.header("location"), Some("/else%2Fwhere/?a=%20b&c=/#d"))
            }),
        ),
        Case::ask(
            "a response's header of 3,000 bytes",
            Request::get("/head/long?bytes=3000"),
            Expect::Response(|_, response| {
                same("status", response.status, 200)?;
                same("length", response.header("x-long").map(str::len), Some(3000))
            }),
        ),
        Case::ask(
            "a response's header that web servers would truncate",
            Request::get("/head/long?bytes=8192"),
            Expect::Response(|_, response| {
                same("status", response.status, 500)?;
                same("a reference", response.text().contains("Reference: "), true)
            }),
        )
        .but(Kind::Serve, Expect::Status(200), "over HTTP there is no such limit"),
        Case::ask("204", Request::get("/head/nothing"), Expect::Bare(204)),
        Case::ask("304", Request::get("/head/not-modified"), Expect::Bare(304)),
        Case::ask(
            "HEAD of a page that does not exist",
            Request::with_method("HEAD", "/no-such-page"),
            Expect::Bare(404),
        ),
        Case::ask("a handler that panics", Request::get("/panic"), Expect::Status(500)),
        Case::ask("a handler that prints", Request::get("/print"), Expect::Text("printed")),
        Case::ask("one task", Request::get("/tasks"), Expect::Text("1")),
    ]
}

fn many() -> Vec<Case> {
    vec![
        Case::check("a client that hangs up in the middle of a response", |running| {
            let hang_up = |running: &Running| {
                let request = Request::get("/drip").below(running.base);
                let connection = request.begin(running.address)?;
                connection.read_at_least(64 * 1024)
            };
            if running.kind == Kind::ApacheCgi {
                // Apache ends the process, which cannot count the handler then.
                hang_up(running).map_err(|error| error.to_string())?;
                return soon("our process ended", || Ok(running.our_processes().is_empty()));
            }
            if running.kind == Kind::Haproxy {
                // haproxy 2.6 closes the connection if it carries no other request; otherwise it reads and
                // discards the rest. It never sends FCGI_ABORT_REQUEST. Others are served meanwhile.
                hang_up(running).map_err(|error| error.to_string())?;
                let healthz = Request::get("/healthz").below(running.base).send(running.address);
                return same("status", healthz.map_err(|error| error.to_string())?.status, 200);
            }
            cancels(running, hang_up)
        }),
        Case::check("a client that hangs up before a response", |running| match running.kind {
            Kind::ApacheFcgid
            | Kind::ApacheFcgidVirtual
            | Kind::ApacheCgi
            | Kind::ApacheProxyFcgi
            | Kind::Caddy
            | Kind::Haproxy
            | Kind::Lighttpd => {
                // These notice that a client has hung up only when they write to it, as in the row above.
                // Here the handler runs to its end.
                let before = cancelled(running)?;
                let request = Request::get("/slow?seconds=1").below(running.base);
                drop(request.begin(running.address).map_err(|error| error.to_string())?);
                thread::sleep(Duration::from_millis(1500));
                let after = cancelled(running)?;
                match running.kind {
                    // haproxy may only now have closed the connection of the row above.
                    Kind::Haproxy => Ok(()),
                    _ => same("cancelled handlers", after, before),
                }
            }
            Kind::Nginx | Kind::Serve => cancels(running, |running| {
                let request = Request::get("/hang").below(running.base);
                let connection = request.begin(running.address)?;
                thread::sleep(Duration::from_millis(300));
                drop(connection);
                Ok(())
            }),
        }),
        Case::check("50 clients at once", |running| {
            at_once(running, 50, |client| {
                let target = format!("/echo/client/{client}?{client}");
                let response = Request::post(target.as_str(), Upload::Counted(client * 100))
                    .below(running.base)
                    .send(running.address)
                    .map_err(|error| error.to_string())?;
                let echo = Echo::read(&response)?;
                same("query", echo.text("query"), Some(client.to_string().as_str()))?;
                same("body length", echo.body_bytes(), Some(client * 100))
            })
        }),
        Case::ask("after everything else", Request::get("/healthz"), Expect::Text("ok")),
    ]
}

/// Checks that `hang_up` causes one more handler to be dropped before its end.
fn cancels(running: &Running, hang_up: fn(&Running) -> std::io::Result<()>) -> Result<(), String> {
    let before = cancelled(running)?;
    hang_up(running).map_err(|error| error.to_string())?;
    soon("the handler was cancelled", || Ok(cancelled(running)? > before))
}

/// Waits until `is_so`, at most 10 s.
fn soon(what: &str, is_so: impl Fn() -> Result<bool, String>) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so()? {
        if Instant::now() > deadline {
            return Err(format!("it took more than 10 s until {what}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// How many handlers have been dropped before their end.
pub(crate) fn cancelled(running: &Running) -> Result<u64, String> {
    let response = Request::get("/cancelled").below(running.base).send(running.address);
    let response = response.map_err(|error| error.to_string())?;
    response.text().parse().map_err(|_| format!("/cancelled says {:?}", response.text()))
}

/// Runs `client` that many times in parallel; the error lists those that failed.
pub(crate) fn at_once(
    _running: &Running,
    clients: u64,
    client: impl Fn(u64) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let failures: Vec<_> = thread::scope(|scope| {
        let client = &client;
        let all: Vec<_> = (0..clients).map(|number| scope.spawn(move || client(number))).collect();
        all.into_iter()
            .enumerate()
            .filter_map(|(number, thread)| {
                let result = thread.join().unwrap_or_else(|_| Err("panicked".to_owned()));
                result.err().map(|error| format!("client {number}: {error}"))
            })
            .collect()
    });
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}
