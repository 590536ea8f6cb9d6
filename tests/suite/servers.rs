//! Runs the table behind every web server, in every deployment.

use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{
    App, Running, Setup, apache_fcgid, apache_proxy_fcgi, caddy, haproxy, lighttpd, nginx, serve,
};
use end_to_end::http_client::Request;

use crate::cases::{Case, cancelled, run_all, same, table};

/// A web server and how it is set up.
pub(crate) struct Deployment {
    pub(crate) name: &'static str,
    pub(crate) base: &'static str,
    pub(crate) start: fn(&Setup) -> std::io::Result<Running>,
}

/// Every deployment that is tested.
pub(crate) const DEPLOYMENTS: [Deployment; 13] = [
    Deployment { name: "mod_fcgid at /", base: "", start: apache_fcgid::start },
    Deployment { name: "mod_fcgid in /project", base: "/project", start: apache_fcgid::start },
    Deployment {
        name: "FcgidWrapper virtual in /project",
        base: "/project",
        start: apache_fcgid::start_virtual,
    },
    Deployment { name: "mod_cgid at /", base: "", start: apache_fcgid::start_cgi },
    Deployment { name: "mod_cgid in /project", base: "/project", start: apache_fcgid::start_cgi },
    Deployment {
        name: "mod_proxy_fcgi, keep-alive",
        base: "/project",
        start: |setup| apache_proxy_fcgi::start(setup, true),
    },
    Deployment {
        name: "mod_proxy_fcgi, one request per connection",
        base: "",
        start: |setup| apache_proxy_fcgi::start(setup, false),
    },
    Deployment {
        name: "nginx, keep-alive",
        base: "/project",
        start: |setup| nginx::start(setup, true),
    },
    Deployment {
        name: "nginx, one request per connection",
        base: "",
        start: |setup| nginx::start(setup, false),
    },
    Deployment { name: "lighttpd", base: "/project", start: lighttpd::start },
    Deployment { name: "caddy", base: "/project", start: caddy::start },
    Deployment { name: "haproxy", base: "/project", start: haproxy::start },
    Deployment { name: "serve", base: "", start: serve::start },
];

/// Starts the deployment of this name with `app` behind it.
///
/// # Panics
///
/// If there is no such deployment or it does not start.
pub(crate) fn start(name: &str, app: App) -> Running {
    start_with(name, |base| Setup::new(app, base))
}

/// The same, with a given setup.
///
/// # Panics
///
/// If there is no such deployment or it does not start.
pub(crate) fn start_with(name: &str, setup: impl FnOnce(&'static str) -> Setup) -> Running {
    let deployment = DEPLOYMENTS.iter().find(|it| it.name == name).expect("it is in the list");
    (deployment.start)(&setup(deployment.base)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn all_cases_pass_behind_mod_fcgid_at_the_root() {
    run_all(start("mod_fcgid at /", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_mod_fcgid_in_a_folder() {
    run_all(start("mod_fcgid in /project", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_fcgid_wrapper_virtual() {
    run_all(start("FcgidWrapper virtual in /project", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_mod_cgid_at_the_root() {
    run_all(start("mod_cgid at /", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_mod_cgid_in_a_folder() {
    run_all(start("mod_cgid in /project", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_mod_proxy_fcgi_with_reuse() {
    run_all(start("mod_proxy_fcgi, keep-alive", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_mod_proxy_fcgi_without_reuse() {
    run_all(start("mod_proxy_fcgi, one request per connection", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_nginx_with_keep_alive() {
    run_all(start("nginx, keep-alive", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_nginx_without_keep_alive() {
    run_all(start("nginx, one request per connection", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_lighttpd() {
    run_all(start("lighttpd", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_caddy() {
    run_all(start("caddy", App::TestApp), table());
}

#[test]
fn all_cases_pass_behind_haproxy() {
    run_all(start("haproxy", App::TestApp), table());
}

#[test]
fn all_cases_pass_over_http() {
    run_all(start("serve", App::TestApp), table());
}

/// httpd regards a process as idle as soon as the client has hung up, even while its handler still runs. The
/// next request then comes on a second connection and must be answered at once.
#[test]
fn one_process_behind_mod_fcgid_serves_others_while_an_abandoned_request_ends() {
    let setup = Setup::new(App::TestApp, "").with_server_lines("FcgidMaxProcessesPerClass 1");
    let running = apache_fcgid::start(&setup).expect("Apache starts");
    let vanishes = Case::check("a client that vanishes", |running| {
        let before = cancelled(running)?;
        let started = Instant::now();
        for _ in 0..5 {
            let drip = Request::get("/drip").begin(running.address);
            drip.and_then(|drip| drip.read_at_least(64 * 1024))
                .map_err(|error| error.to_string())?;
            let response = Request::get("/healthz").send(running.address);
            same("status", response.map_err(|error| error.to_string())?.status, 200)?;
        }
        same("quickly", started.elapsed() < Duration::from_secs(10), true)?;
        same("processes", running.our_processes().len(), 1)?;
        while cancelled(running)? < before + 5 {
            same("cancelled in time", started.elapsed() < Duration::from_secs(20), true)?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    run_all(running, vec![vanishes]);
}

#[test]
fn names_of_cases_and_deployments_are_unique() {
    let mut names: Vec<_> = table().iter().map(|case| case.name).collect();
    names.extend(DEPLOYMENTS.iter().map(|deployment| deployment.name));
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
