//! The login behind Apache mod_fcgid: the password set with `SetEnv`, sessions shared by all processes, and the login
//! for a folder of plain files.

use std::fs;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{App, Running, Setup, apache_fcgid, serve};
use end_to_end::http_client::{Request, Response, Upload};
use end_to_end::process_table::parent;

use crate::cases::same;

/// Far more than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(30);

const PASSWORD: &str = "a long password, with 100% of signs";

/// The snippet of docs/login.md for a folder next to the site.
fn guard() -> String {
    let text = include_str!("../../docs/login.md");
    let (_, after) = text.split_once("<!-- snippet: guarded folder -->").expect("the snippet");
    let (_, block) = after.split_once("```apache\n").expect("a block");
    block.split_once("```").expect("its end").0.to_owned()
}

/// The cookies of a browser.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cookies(Vec<(String, String)>);

impl Cookies {
    /// Sends them with a request.
    pub(crate) fn add_to(&self, request: Request) -> Request {
        if self.0.is_empty() {
            return request;
        }
        let pairs = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        request.header("Cookie", &pairs.collect::<Vec<_>>().join("; "))
    }

    /// Keeps those of a response.
    pub(crate) fn keep(&mut self, response: &Response) {
        for (_, line) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (pair, attributes) = line.split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a value");
            self.0.retain(|(known, _)| known != name);
            if !attributes.contains("Max-Age=0") {
                self.0.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}

/// As much of a browser as the login needs.
pub(crate) struct Browser<'a> {
    running: &'a Running,
    pub(crate) cookies: Cookies,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(running: &'a Running) -> Self {
        Browser { running, cookies: Cookies::default() }
    }

    fn send(&mut self, request: Request) -> Response {
        let request = self.cookies.add_to(request.header("Accept", "text/html"));
        let response = request.send(self.running.address).expect("a response");
        self.cookies.keep(&response);
        response
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(Request::get(path))
    }

    pub(crate) fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let encoded = fields.iter().map(|(name, value)| {
            let value: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            format!("{name}={value}")
        });
        let body = encoded.collect::<Vec<_>>().join("&");
        let request = Request::post(path, Upload::Text(body.into_bytes()));
        self.send(request.header("Content-Type", "application/x-www-form-urlencoded"))
    }

    /// Loads the form at this path, fills it in and submits it.
    pub(crate) fn log_in(&mut self, form: &str, password: &str) -> Response {
        let to = format!("{}/login", self.running.base);
        let page = self.get(form);
        let field = |name: &str| field(&page, name);
        let fields = [
            ("csrf", &*field("csrf")),
            ("next", &field("next")),
            ("signed", &field("signed")),
            ("password", password),
        ];
        self.post(&to, &fields)
    }
}

/// The value of a form field in the main part of a page.
pub(crate) fn field(page: &Response, name: &str) -> String {
    let text = page.text();
    let (_, main) = text.split_once("<main").unwrap_or_else(|| panic!("{}: {text}", page.status));
    let (_, rest) = main
        .split_once(&format!("name=\"{name}\" value=\""))
        .unwrap_or_else(|| panic!("{} without {name}: {main}", page.status));
    rest.split('"').next().expect("its end").replace("&#x2F;", "/").replace("&amp;", "&")
}

fn location(response: &Response) -> String {
    response.header("location").unwrap_or("nowhere").to_owned()
}

/// Starts Apache with the site in /project, its password set with SetEnv, and a guarded folder next to it.
fn start() -> Running {
    let setup = Setup::new(App::Toolshed, "/project");
    let running = apache_fcgid::start(&setup).expect("Apache starts");
    let www = running.folder().join("www");
    let mut htaccess =
        fs::OpenOptions::new().append(true).open(www.join("project/.htaccess")).expect("a file");
    write!(htaccess, "\nSetEnv APP_PASSWORD \"{PASSWORD}\"\n").expect("it is written");
    fs::create_dir(www.join("members")).expect("a folder");
    fs::write(www.join("members/a.txt"), "for the owner\n").expect("a file");
    fs::write(www.join("members/index.html"), "for the owner, too\n").expect("a file");
    let launcher = www.join("project/dispatch.fcgi");
    let guard = guard()
        .replace("/home/me/public_html/project/dispatch.fcgi", launcher.to_str().expect("ASCII"))
        .replace("my long password", PASSWORD);
    fs::write(www.join("members/.htaccess"), guard).expect("a file");
    fs::write(running.folder().join("toolshed.toml"), "cookie_path = \"/\"\n").expect("a file");
    running
}

/// For owners who can only upload files.
#[test]
fn an_uploaded_file_opens_the_set_up_page_once() {
    const TOKEN: &str = "only I can upload this";
    let setup = Setup::new(App::Toolshed, "/project");
    let running = apache_fcgid::start(&setup).expect("Apache starts");
    let mut owner = Browser::new(&running);
    let nothing_set = owner.get("/project/login");
    assert!(nothing_set.text().contains("/project/set-up"), "{}", nothing_set.text());
    let set_up = |browser: &mut Browser<'_>, token: &str, again: &str| {
        let page = browser.get("/project/set-up");
        assert_eq!(page.status, 200);
        let csrf = field(&page, "csrf");
        let fields = [("csrf", &*csrf), ("token", token), ("password", PASSWORD), ("again", again)];
        browser.post("/project/set-up", &fields)
    };
    let too_early = set_up(&mut owner, TOKEN, PASSWORD);
    assert_eq!(too_early.status, 422);
    assert!(too_early.text().contains("has not arrived yet"), "{}", too_early.text());
    let file = running.folder().join("toolshed.setup");
    fs::write(&file, format!("{TOKEN}\r\n")).expect("it is uploaded");
    let mut stranger = Browser::new(&running);
    assert_eq!(set_up(&mut stranger, "a guess of some length", PASSWORD).status, 422);
    assert_eq!(set_up(&mut owner, TOKEN, "something else").status, 422);
    let done = set_up(&mut owner, TOKEN, PASSWORD);
    assert_eq!((done.status, &*location(&done)), (303, "/project/"), "{}", done.text());
    assert_eq!(owner.get("/project/tools/inspect").status, 200, "the owner is logged in");
    // Closed for everyone from now on, even if the file is uploaded again.
    fs::write(&file, TOKEN).expect("it is uploaded again");
    for browser in [&mut owner, &mut stranger] {
        assert_eq!(browser.get("/project/set-up").status, 404);
    }
    assert_eq!(stranger.log_in("/project/login", TOKEN).status, 401);
    assert_eq!(stranger.log_in("/project/login", PASSWORD).status, 303);
}

#[test]
fn a_password_set_with_setenv_opens_the_tools_behind_mod_fcgid() {
    let running = start();
    let mut browser = Browser::new(&running);
    let refused = browser.get("/project/tools/inspect");
    assert_eq!(
        (refused.status, &*location(&refused)),
        (303, "/project/login?next=%2Fproject%2Ftools%2Finspect")
    );
    let wrong = browser.log_in(&location(&refused), "a long password");
    assert_eq!(wrong.status, 401);
    assert!(wrong.text().contains("Wrong password."), "{}", wrong.text());
    let entered = browser.log_in(&location(&refused), PASSWORD);
    assert_eq!((entered.status, &*location(&entered)), (303, "/project/tools/inspect"));

    // The password is in no page or variable, and every process knows the session.
    let inspect = browser.get("/project/tools/inspect");
    assert_eq!(inspect.status, 200);
    assert!(!inspect.text().contains(PASSWORD) && inspect.text().contains("SERVER_SOFTWARE"));
    thread::scope(|scope| {
        for _ in 0..8 {
            let cookies = browser.cookies.clone();
            let running = &running;
            scope.spawn(move || {
                for _ in 0..20 {
                    let mut same_browser = Browser { running, cookies: cookies.clone() };
                    assert_eq!(same_browser.get("/project/tools/inspect").status, 200);
                }
            });
        }
    });
    assert!(running.our_processes().len() > 1, "mod_fcgid started several");
    assert_eq!(running.check_tasks(), Ok(()));

    let account = browser.get("/project/account");
    let csrf = field(&account, "csrf");
    let fields = [("csrf", &*csrf), ("end", "everywhere"), ("password", PASSWORD)];
    let out = browser.post("/project/account/sessions", &fields);
    assert_eq!((out.status, &*location(&out)), (303, "/project/"));
    assert_eq!(browser.get("/project/tools/inspect").status, 303);
    same("it stops", running.stop(), Ok(())).expect("no process is left");
}

#[test]
fn all_processes_of_mod_fcgid_count_guesses_together() {
    let running = start();
    // Eight at once, so that mod_fcgid starts several processes.
    let statuses = thread::scope(|scope| {
        let guesser = |_| {
            let running = &running;
            scope.spawn(move || {
                let mut browser = Browser::new(running);
                (0..5)
                    .map(|_| browser.log_in("/project/login", "a guess").status)
                    .collect::<Vec<_>>()
            })
        };
        let guessers: Vec<_> = (0..8).map(guesser).collect();
        guessers
            .into_iter()
            .flat_map(|guesser| guesser.join().expect("it ends"))
            .collect::<Vec<_>>()
    });
    assert!(running.our_processes().len() > 1, "mod_fcgid started several");
    let checked = statuses.iter().filter(|status| **status == 401).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(checked + refused, 40, "{statuses:?}");
    // Five are free; then one more each after 1, 2, 4, … seconds.
    assert!((5..=13).contains(&checked), "{statuses:?}");
    // The last wait may be short, or nearly over.
    let mut guesser = Browser::new(&running);
    let start = Instant::now();
    loop {
        let guess = guesser.log_in("/project/login", "a guess");
        let wait = guess.header("retry-after").and_then(|text| text.parse::<u32>().ok());
        if wait.is_some_and(|seconds| seconds > 5) {
            break;
        }
        assert!(start.elapsed() < TIMEOUT, "{}", guess.text());
        thread::sleep(Duration::from_millis(200));
    }
    let waits = Browser::new(&running).log_in("/project/login", PASSWORD);
    assert_eq!(waits.status, 429);
    let seconds: u32 =
        waits.header("retry-after").and_then(|text| text.parse().ok()).expect("a number");
    assert!((1..=300).contains(&seconds) && waits.text().contains("Try again in"));
    same("it stops", running.stop(), Ok(())).expect("no process is left");
}

#[test]
fn a_guarded_folder_of_plain_files_leads_to_the_login_and_back() {
    let running = start();
    let mut browser = Browser::new(&running);
    for path in [
        "/members/a.txt?x=1",
        "/members/",
        "/members/nothing",
        "//members/a.txt",
        "/members/./a.txt",
        "/%6Dembers/a.txt",
        "/project/../members/a.txt",
    ] {
        let refused = browser.get(path);
        assert!(!refused.text().contains("for the owner"), "{path}");
        assert!(matches!(refused.status, 302 | 401), "{path}: {}", refused.status);
    }
    let posted = browser.post("/members/a.txt", &[("a", "b")]);
    assert!(matches!(posted.status, 302 | 401) && !posted.text().contains("for the owner"));
    let plain = Request::get("/members/a.txt").send(running.address).expect("a response");
    assert_eq!(plain.status, 401, "clients that are not browsers get no redirect");
    for (name, value) in [
        ("Cookie", "toolshed=forged"),
        ("Cookie", "toolshed="),
        ("REDIRECT_STATUS", "200"),
        ("Authorization", "Basic b3duZXI6"),
    ] {
        let response = Request::get("/members/a.txt")
            .header(name, value)
            .send(running.address)
            .expect("a response");
        assert_eq!(response.status, 401, "{name}");
    }

    let refused = browser.get("/members/a.txt?x=1");
    assert_eq!(refused.status, 302);
    let entered = browser.log_in(&location(&refused), PASSWORD);
    assert_eq!((entered.status, &*location(&entered)), (303, "/members/a.txt?x=1"));
    let file = browser.get("/members/a.txt?x=1");
    assert_eq!((file.status, file.text()), (200, "for the owner\n".into()));
    assert_eq!(file.header("cache-control"), Some("private, no-cache"));
    assert_eq!(browser.get("/members/").text(), "for the owner, too\n");
    assert_eq!(browser.get("/members/nothing").status, 404);
    let part = browser.send(Request::get("/members/a.txt").header("Range", "bytes=0-2"));
    assert_eq!((part.status, part.text()), (206, "for".into()));

    let account = browser.get("/project/account");
    browser.post("/project/logout", &[("csrf", &field(&account, "csrf"))]);
    assert_eq!(browser.get("/members/a.txt").status, 302);
    same("it stops", running.stop(), Ok(())).expect("no process is left");
}

/// Without file locks, several processes would corrupt the store. So it is not used, and the log tells the owner what
/// to do.
#[test]
fn without_locks_public_pages_work_and_the_log_says_what_to_do() {
    let setup =
        Setup::new(App::Toolshed, "").without_locks().with_variable("APP_PASSWORD", PASSWORD);
    let running = serve::start(&setup).expect("it starts");
    let mut browser = Browser::new(&running);
    for path in ["/healthz", "/", "/tools/checksum", "/static/site.css"] {
        assert_eq!(browser.get(path).status, 200, "{path}");
    }
    let login = browser.get("/login");
    assert_eq!(login.status, 503);
    assert!(
        !login.text().contains("ENOLCK") && login.text().contains("can find the cause in the log")
    );
    let output = running.output();
    for text in ["has no locks (ENOLCK)", "set data to a folder of your own on a local disk"] {
        assert!(output.contains(text), "{text}: {output}");
    }
    same("it stops", running.stop(), Ok(())).expect("no process is left");
}

/// How many addresses try a password at the same moment.
const CROWD: usize = 44;

/// The result of a crowd's attempts.
struct Attempts {
    /// Status and `Retry-After` of each response.
    responses: Vec<(u16, Option<String>)>,
    /// The maximum number of children that checked passwords at the same time.
    max_checked: usize,
}

/// Each client loads the form, then all submit it at once; meanwhile, another client checks that the site answers.
fn crowd(running: &Running) -> Attempts {
    let (is_over, at_once) = (AtomicBool::new(false), Barrier::new(CROWD));
    thread::scope(|scope| {
        let one = |number: usize| {
            let (at_once, to) = (&at_once, format!("{}/login", running.base));
            scope.spawn(move || {
                let address = format!("192.0.2.{number}");
                let form = Request::get(to.as_str()).header("X-Forwarded-For", &address);
                let form = form.send(running.address).expect("a form");
                let cookie = form.header("set-cookie").expect("a cookie").split(';').next();
                let body = format!("csrf={}&password=a+guess", field(&form, "csrf"));
                let request = Request::post(to.as_str(), Upload::Text(body.into_bytes()))
                    .header("X-Forwarded-For", &address)
                    .header("Cookie", cookie.expect("its value"))
                    .header("Content-Type", "application/x-www-form-urlencoded");
                at_once.wait();
                let response = request.send(running.address).expect("a response");
                (response.status, response.header("retry-after").map(str::to_owned))
            })
        };
        let watch = || {
            let mut max_checked = 0;
            while !is_over.load(Ordering::Relaxed) {
                let ours = running.our_processes();
                let is_child =
                    |pid: &&u32| parent(**pid).is_ok_and(|parent| ours.contains(&parent));
                max_checked = max_checked.max(ours.iter().filter(is_child).count());
            }
            max_checked
        };
        let visit = || {
            while !is_over.load(Ordering::Relaxed) {
                let healthy = Request::get(format!("{}/healthz", running.base));
                assert_eq!(healthy.send(running.address).expect("a response").status, 200);
            }
        };
        let (watcher, visitor) = (scope.spawn(watch), scope.spawn(visit));
        let crowd: Vec<_> = (0..CROWD).map(one).collect();
        let responses = crowd.into_iter().map(|one| one.join().expect("it ends")).collect();
        is_over.store(true, Ordering::Relaxed);
        visitor.join().expect("the site answers");
        Attempts { responses, max_checked: watcher.join().expect("it ends") }
    })
}

/// The hash of "correct horse".
const HASH: &str =
    "pbkdf2-sha256:600000:MDEyMzQ1Njc4OWFiY2RlZg:kYKAg_dg7WC7VQ4k8-iaopu8snxCGdA0xMTwPC5tudk";

/// Checks that a flood of login attempts delays neither other pages nor, for long, the owner, with any number of
/// processes. `in_children`: how many checks may run in children at the same time.
fn check_two_at_a_time(
    start: impl Fn(&Setup) -> io::Result<Running>,
    base: &'static str,
    in_children: RangeInclusive<usize>,
) {
    let setup = Setup::new(App::Toolshed, base)
        .with_variable("APP_PASSWORD_HASH", HASH)
        .with_variable("TOOLSHED_TRUSTED_PROXIES", "127.0.0.1");
    let running = start(&setup).expect("it starts");
    let Attempts { responses, max_checked } = crowd(&running);
    assert!(in_children.contains(&max_checked), "{max_checked} at a time");
    for (status, retry_after) in &responses {
        let is_expected = *status == 401 || (*status == 503 && retry_after.as_deref() == Some("5"));
        assert!(is_expected, "{responses:?}");
    }
    let checked = responses.iter().filter(|(status, _)| *status == 401).count();
    assert!((2..CROWD).contains(&checked), "{responses:?}");
    let output = running.output() + &running.program_logs();
    assert!(output.contains("fault=\"login\""), "{output}");
    let mut owner = Browser::new(&running);
    assert_eq!(owner.log_in(&format!("{base}/login"), "correct horse").status, 303);
    assert_eq!(running.check_tasks(), Ok(()));
    same("it stops", running.stop(), Ok(())).expect("no process is left");
}

#[test]
fn passwords_are_checked_two_at_a_time_and_the_site_stays_responsive() {
    check_two_at_a_time(serve::start, "", 1..=2);
}

#[test]
fn passwords_are_checked_two_at_a_time_across_all_processes_of_mod_fcgid() {
    let start = |setup: &Setup| apache_fcgid::start(setup).inspect(wait_until_version_is_checked);
    check_two_at_a_time(start, "/project", 1..=2);
}

/// The first process that mod_fcgid starts checks its own version in a child, which would be counted as a password
/// check.
fn wait_until_version_is_checked(running: &Running) {
    let verdicts = running.folder().join("data/upgrade");
    let has_passed = |entry: io::Result<fs::DirEntry>| {
        let verdict = entry.and_then(|entry| fs::read_to_string(entry.path()));
        verdict.is_ok_and(|verdict| verdict.starts_with("passed"))
    };
    let started = Instant::now();
    while !fs::read_dir(&verdicts).is_ok_and(|mut entries| entries.any(has_passed)) {
        assert!(started.elapsed() < TIMEOUT, "no verdict in {}", verdicts.display());
        let healthy = Request::get(format!("{}/healthz", running.base));
        assert_eq!(healthy.send(running.address).expect("a response").status, 200);
        thread::sleep(Duration::from_millis(50));
    }
}

/// Under CGI, each process computes itself, but not all at once.
#[test]
fn passwords_are_checked_two_at_a_time_over_cgi() {
    check_two_at_a_time(apache_fcgid::start_cgi, "/project", 0..=0);
}

/// At the process limit, a password is not checked at all, rather than in the event loop.
#[test]
fn without_processes_the_login_says_when_to_retry() {
    let setup = Setup::new(App::Toolshed, "").with_variable("APP_PASSWORD_HASH", HASH);
    let running = serve::start(&setup.with_processes(1)).expect("it starts");
    let response = Browser::new(&running).log_in("/login", "correct horse");
    assert_eq!(
        (response.status, response.header("retry-after")),
        (503, Some("5")),
        "{}",
        response.text()
    );
    assert!(response.text().contains("Too many login attempts right now"), "{}", response.text());
    let output = running.output();
    assert!(
        output.contains("fault=\"login\"") && output.contains("no process could be created"),
        "{output}"
    );
    assert_eq!(running.check_tasks(), Ok(()));
    same("it stops", running.stop(), Ok(())).expect("no process is left");
}

/// Store, child processes and cookies work on limited hosts, too.
#[test]
fn the_login_works_without_threads_on_an_old_kernel() {
    let setup = Setup::new(App::Toolshed, "").without_threads().on_an_old_kernel();
    let running = serve::start(&setup.with_variable("APP_PASSWORD_HASH", HASH)).expect("it starts");
    let mut browser = Browser::new(&running);
    assert_eq!(browser.log_in("/login", "wrong").status, 401);
    assert_eq!(browser.log_in("/login", "correct horse").status, 303);
    assert_eq!(browser.get("/tools/inspect").status, 200);
    assert_eq!(running.check_tasks(), Ok(()));
    same("it stops", running.stop(), Ok(())).expect("no process is left");
}
