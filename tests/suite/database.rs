//! The program with its store in PostgreSQL: sessions, upgrades, a server that goes away and comes back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{App, Running, Setup, apache_fcgid, serve};
use end_to_end::http_client::Request;
use end_to_end::process_table::signal;
use postgres_fixture::{Server, Shutdown};

use crate::login::{Browser, Cookies};

/// Far more than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(30);

const PASSWORD: &str = "correct horse battery";

/// The site, at whose programs no thread can be started.
fn setup(server: &Server, base: &'static str) -> Setup {
    let url: &'static str = server.tcp_url().leak();
    let setup = Setup::new(App::Toolshed, base).with_variable("TOOLSHED_DATABASE", url);
    setup.with_variable("APP_PASSWORD", PASSWORD).without_threads()
}

/// Returns how many connections the program has.
fn connections(server: &Server) -> usize {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'toolshed'";
    server.psql(count).parse().expect("a number")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < TIMEOUT, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn log_in(running: &Running) -> Cookies {
    let mut browser = Browser::new(running);
    let form = format!("{}/login", running.base);
    assert_eq!(browser.log_in(&form, PASSWORD).status, 303, "{}", running.program_logs());
    browser.cookies
}

/// The page that only the owner sees, and that reads sessions and events.
fn account(running: &Running, cookies: &Cookies) -> Request {
    let account = Request::get(format!("{}/account", running.base));
    cookies.add_to(account).header("Accept", "text/html")
}

/// A draining child continues with the connections, and the new image opens its own.
#[test]
fn upgrades_lose_no_request_of_a_session_and_no_connection() {
    const CLIENTS: usize = 6;
    let server = Server::start();
    let running = serve::start(&setup(&server, "")).expect("it starts");
    let cookies = log_in(&running);
    let (is_over, responses) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let response = account(&running, &cookies).send(running.address);
                    let response = response.expect("a response");
                    assert_eq!(response.status, 200, "{}", running.program_logs());
                    responses.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let upgrades = || running.program_logs().matches("Upgrading in place").count();
        for count in 0..8 {
            thread::sleep(Duration::from_millis(200));
            for process in running.our_processes() {
                // A draining child may have exited meanwhile.
                let _ = signal(process, libc::SIGHUP);
            }
            until("it upgrades", || upgrades() > count);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(responses.load(Ordering::Relaxed) > 100);
    until("connections of images that are gone are closed", || connections(&server) <= 4);
    assert_eq!(running.check_tasks(), Ok(()));
    assert_eq!(running.stop(), Ok(()));
    until("its connections are closed", || connections(&server) == 0);
}

/// Public pages go on; what needs the store is a 503 with the cause in the log, and over when the server is back.
#[test]
fn a_server_that_goes_away_is_a_503_until_it_is_back() {
    let mut server = Server::start();
    let running = apache_fcgid::start(&setup(&server, "/project")).expect("Apache starts");
    let cookies = log_in(&running);
    let status = |request: Request| request.send(running.address).expect("a response").status;
    for how in [Shutdown::Fast, Shutdown::Immediate] {
        assert_eq!(status(account(&running, &cookies)), 200);
        server.stop(how);
        let started = Instant::now();
        let response = account(&running, &cookies).send(running.address).expect("a response");
        assert_eq!(response.status, 503);
        assert!(response.text().contains("data is unavailable"), "{}", response.text());
        assert!(!response.text().contains("PostgreSQL"), "{}", response.text());
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(status(Request::get("/project/healthz")), 200);
        server.start_again();
        until("it is back", || status(account(&running, &cookies)) == 200);
    }
    let log = running.program_logs();
    assert!(log.contains("PostgreSQL cannot be reached at localhost:"), "{log}");
    assert!(!log.contains(postgres_fixture::PASSWORD) && !log.contains("battery"), "{log}");
    assert_eq!(running.check_tasks(), Ok(()));
    assert_eq!(running.stop(), Ok(()));
}
