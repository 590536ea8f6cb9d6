//! The one table of cases, asked of every web server: name, request, expectation.
//!
//! Where a web server answers by itself, before our program is asked, the row says so for that server,
//! with the reason. Nothing is skipped.

use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{Kind, Running};
use end_to_end::http_client::{Request, Response, Upload};

use crate::echo::Echo;

/// One row.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    what: What,
    differently: Vec<Different>,
}

/// What a row does.
enum What {
    Ask(Request, Expect),
    /// More than one request, or one that is not waited for.
    Check(fn(&Running) -> Result<(), String>),
}

/// What the answer has to be.
pub(crate) enum Expect {
    /// `test-app` saw this very path, query, method and body.
    Echo,
    /// It saw this path, and the rest as it was sent.
    EchoAt(&'static str),
    /// It saw this header with this value, once.
    EchoHeader(&'static str, &'static str),
    /// It did not see this header.
    EchoWithout(&'static str),
    /// This status.
    Status(u16),
    /// 200 and this text.
    Text(&'static str),
    /// This status, and no body.
    Bare(u16),
    /// 200, a length as a GET would have it or none, and no body.
    Head,
    /// 200 and these many bytes of the pattern.
    Pattern(u64),
    /// A redirect to a place that ends so.
    Redirect(&'static str),
    /// Whatever this finds right.
    Answer(fn(&Running, &Response) -> Result<(), String>),
}

/// What a web server answers by itself, and why.
struct Different {
    who: Kind,
    expect: Expect,
    why: &'static str,
}

impl Case {
    pub(crate) fn ask(name: &'static str, request: Request, expect: Expect) -> Self {
        Self { name, what: What::Ask(request, expect), differently: Vec::new() }
    }

    pub(crate) fn check(name: &'static str, check: fn(&Running) -> Result<(), String>) -> Self {
        Self { name, what: What::Check(check), differently: Vec::new() }
    }

    /// Says what one web server answers by itself, and why.
    pub(crate) fn but(mut self, who: Kind, expect: Expect, why: &'static str) -> Self {
        assert!(!why.is_empty(), "{}: a difference has a reason", self.name);
        self.differently.push(Different { who, expect, why });
        self
    }

    /// Says what Apache answers by itself where its owner has nothing but .htaccess, and why.
    fn but_on_shared_apaches(self, status: u16, why: &'static str) -> Self {
        [Kind::ApacheFcgid, Kind::ApacheFcgidVirtual, Kind::ApacheCgi]
            .into_iter()
            .fold(self, |case, kind| case.but(kind, Expect::Status(status), why))
    }

    fn run(&self, running: &Running) -> Result<(), String> {
        match &self.what {
            What::Check(check) => check(running),
            What::Ask(request, expect) => {
                let different = self.differently.iter().find(|row| row.who == running.kind);
                let sent = request.clone().below(running.base);
                let answer = sent.send(running.address).map_err(|error| error.to_string())?;
                match different {
                    None => expect.check(running, request, &answer),
                    Some(row) => row.expect.check(running, request, &answer).map_err(|error| {
                        format!("{error} (a difference is expected: {})", row.why)
                    }),
                }
            }
        }
    }
}

impl Expect {
    fn check(&self, running: &Running, sent: &Request, answer: &Response) -> Result<(), String> {
        let target = || String::from_utf8_lossy(&sent.target).into_owned();
        match self {
            Self::Echo => same_echo(running, sent, &target(), &Echo::read(answer)?),
            Self::EchoAt(path) => same_echo(running, sent, path, &Echo::read(answer)?),
            Self::EchoHeader(name, value) => {
                same("header", Echo::read(answer)?.header(name), vec![*value])
            }
            Self::EchoWithout(name) => {
                same("header", Echo::read(answer)?.header(name), Vec::<&str>::new())
            }
            Self::Status(status) => same("status", answer.status, *status),
            Self::Text(text) => {
                same("status", answer.status, 200)?;
                same("text", answer.text(), *text)
            }
            Self::Head => {
                same("status", answer.status, 200)?;
                same("body", answer.body_bytes, 0)
            }
            Self::Bare(status) => {
                same("status", answer.status, *status)?;
                same("body", answer.body_bytes, 0)
            }
            Self::Pattern(bytes) => {
                same("status", answer.status, 200)?;
                same("length", answer.body_bytes, *bytes)?;
                same("checksum", answer.sha256.clone(), Upload::Counted(*bytes).sha256())
            }
            Self::Redirect(place) => {
                same("redirect", (301..=308).contains(&answer.status), true)?;
                let location = answer.header("location").unwrap_or("nowhere");
                let place = format!("{}{place}", running.base);
                // The host may stand before it, never anything else.
                let rest = location.strip_suffix(place.as_str());
                match rest.map(|host| host.strip_prefix("http://").unwrap_or(host)) {
                    Some(host) if !host.contains('/') => Ok(()),
                    _ => Err(format!("a redirect to {location}, not to {place}")),
                }
            }
            Self::Answer(check) => check(running, answer),
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

/// Compares, and says what differs.
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

/// Asks all of `cases`, then looks at our processes, then ends everything.
///
/// # Panics
/// When anything is not as the table says; all failures are listed.
pub(crate) fn run_all(running: Running, cases: Vec<Case>) {
    let mut failures = Vec::new();
    // mod_fcgid starts our program with the first request.
    let first = Case::ask("the first request", Request::get("/healthz"), Expect::Text("ok"));
    for case in [first].iter().chain(&cases) {
        let begin = Instant::now();
        if let Err(error) = case.run(&running) {
            failures.push(format!("{}: {error}", case.name));
        }
        let took = begin.elapsed();
        if took > Duration::from_secs(2) {
            println!("{}: {took:.1?}", case.name);
        }
        // A thread may live for one request only.
        if let Err(error) = running.check_tasks() {
            failures.push(format!("after {}: {error}", case.name));
        }
    }
    if !failures.is_empty() {
        eprintln!("{}", tail(&running.said()));
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

/// What `test-app` is asked behind every web server.
pub(crate) fn table() -> Vec<Case> {
    [methods(), bodies(), paths(), queries(), headers(), answers(), many()]
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
        .but(Kind::Serve, Expect::Status(404), "no web server is there, and test-app has no files")
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
            "a body to a page that is not there",
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
            .but(
                Kind::Caddy,
                Expect::EchoAt("/echo/%E2%82%AC%C3%A4"),
                "caddy encodes what a URL may not hold raw",
            )
            .but(
                Kind::Haproxy,
                Expect::Status(400),
                "haproxy refuses what a URL may not hold raw (accept-invalid-http-request)",
            ),
        get("an encoded byte that is no UTF-8", "/echo/%FF").but(
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
            "no Authorization is none",
            Request::get("/echo/headers"),
            Expect::EchoWithout("authorization"),
        ),
        Case::ask(
            "Host arrives",
            Request::get("/echo/headers"),
            Expect::EchoHeader("host", "tools.test"),
        ),
        Case::ask(
            "a header of our own arrives",
            with("X-Some-Thing", "a, b"),
            Expect::EchoHeader("x-some-thing", "a, b"),
        ),
        Case::ask(
            "cookies arrive",
            with("Cookie", "a=b; c=d"),
            Expect::EchoHeader("cookie", "a=b; c=d"),
        ),
        Case::ask(
            "a Proxy header never looks like a setting",
            with("Proxy", "http://evil.test"),
            Expect::EchoWithout("proxy"),
        )
        .but(
            Kind::Serve,
            Expect::EchoHeader("proxy", "http://evil.test"),
            "over HTTP no header ever becomes a variable, so it is a header like others",
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
            Expect::Answer(|_, answer| {
                same("length", Echo::read(answer)?.header("x-long").concat().len(), 6000)
            }),
        ),
    ]
}

fn answers() -> Vec<Case> {
    vec![
        Case::ask("an answer of 1 MiB", Request::get("/large?mib=1"), Expect::Pattern(1 << 20)),
        Case::ask("an answer of 64 MiB", Request::get("/large?mib=64"), Expect::Pattern(64 << 20)),
        Case::ask("a slow answer", Request::get("/slow?milliseconds=300"), Expect::Text("slow")),
        Case::ask(
            "two cookies are two",
            Request::get("/head/cookies"),
            Expect::Answer(|_, answer| {
                let cookies = answer.headers.iter().filter(|(name, _)| name == "set-cookie");
                let values: Vec<_> = cookies.map(|(_, value)| value.as_str()).collect();
                same("cookies", values, vec!["a=1; Path=/; HttpOnly", "b=2"])?;
                same("text", answer.text(), "baked")
            }),
        ),
        Case::ask(
            "a redirect arrives as it was written",
            Request::get("/head/elsewhere"),
            Expect::Answer(|_, answer| {
                same("status", answer.status, 303)?;
                same("place", answer.header("location"), Some("/else%2Fwhere/?a=%20b&c=/#d"))
            }),
        ),
        Case::ask(
            "an answer's header of 3,000 bytes",
            Request::get("/head/long?bytes=3000"),
            Expect::Answer(|_, answer| {
                same("status", answer.status, 200)?;
                same("length", answer.header("x-long").map(str::len), Some(3000))
            }),
        ),
        Case::ask(
            "one that web servers would cut is a failure with a reference",
            Request::get("/head/long?bytes=8192"),
            Expect::Answer(|_, answer| {
                same("status", answer.status, 500)?;
                same("a reference", answer.text().contains("Reference: "), true)
            }),
        )
        .but(Kind::Serve, Expect::Status(200), "over HTTP nobody cuts it"),
        Case::ask("204", Request::get("/head/nothing"), Expect::Bare(204)),
        Case::ask("304", Request::get("/head/not-modified"), Expect::Bare(304)),
        Case::ask(
            "HEAD of what is not there",
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
        Case::check("a client that hangs up in the middle of an answer", |running| {
            let hang_up = |running: &Running| {
                let request = Request::get("/drip").below(running.base);
                let connection = request.begin(running.address)?;
                connection.read_at_least(64 * 1024)
            };
            if running.kind == Kind::ApacheCgi {
                // Apache ends the process, and nobody is left to count.
                hang_up(running).map_err(|error| error.to_string())?;
                return soon("our process has gone", || Ok(running.our_processes().is_empty()));
            }
            if running.kind == Kind::Haproxy {
                // haproxy 2.6 ends the connection when this was all that was on it, and else reads what
                // still comes and drops it: FCGI_ABORT_REQUEST never comes. Others are served meanwhile.
                hang_up(running).map_err(|error| error.to_string())?;
                let healthz = Request::get("/healthz").below(running.base).send(running.address);
                return same("status", healthz.map_err(|error| error.to_string())?.status, 200);
            }
            cancels(running, hang_up)
        }),
        Case::check("a client that hangs up before an answer", |running| match running.kind {
            Kind::ApacheFcgid
            | Kind::ApacheFcgidVirtual
            | Kind::ApacheCgi
            | Kind::ApacheProxyFcgi
            | Kind::Caddy
            | Kind::Haproxy
            | Kind::Lighttpd => {
                // These notice a vanished client when they write to it, which the row above shows.
                // Here the handler comes to its end, and nobody is harmed.
                let before = cancelled(running)?;
                let request = Request::get("/slow?seconds=1").below(running.base);
                drop(request.begin(running.address).map_err(|error| error.to_string())?);
                thread::sleep(Duration::from_millis(1500));
                let after = cancelled(running)?;
                match running.kind {
                    // It may only now have let go of the request of the row above.
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
                let answer = Request::post(target.as_str(), Upload::Counted(client * 100))
                    .below(running.base)
                    .send(running.address)
                    .map_err(|error| error.to_string())?;
                let echo = Echo::read(&answer)?;
                same("query", echo.text("query"), Some(client.to_string().as_str()))?;
                same("body length", echo.body_bytes(), Some(client * 100))
            })
        }),
        Case::ask("after all that", Request::get("/healthz"), Expect::Text("ok")),
    ]
}

/// Checks that `hang_up` makes one more handler be dropped before its end.
fn cancels(running: &Running, hang_up: fn(&Running) -> std::io::Result<()>) -> Result<(), String> {
    let before = cancelled(running)?;
    hang_up(running).map_err(|error| error.to_string())?;
    soon("the handler was cancelled", || Ok(cancelled(running)? > before))
}

/// Looks until it is so.
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
    let answer = Request::get("/cancelled").below(running.base).send(running.address);
    let answer = answer.map_err(|error| error.to_string())?;
    answer.text().parse().map_err(|_| format!("/cancelled says {:?}", answer.text()))
}

/// Runs `client` this many times at once and lists who failed.
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
