//! Names are looked up by a forked child, so each case has a process with one thread.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use case_runner::Ending::Success;
use resolve::{ResolveError, resolve};

fn main() -> ExitCode {
    case_runner::main(
        &[
            ("some_names_need_no_child", some_names_need_no_child, Success),
            ("a_child_looks_up_the_others", a_child_looks_up_the_others, Success),
            ("what_does_not_exist_is_named", what_does_not_exist_is_named, Success),
            ("the_time_is_limited", the_time_is_limited, Success),
        ],
        &[],
    )
}

fn look_up(name: &str, seconds: f64) -> Result<Vec<SocketAddr>, ResolveError> {
    let timeout = Duration::from_secs_f64(seconds);
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    event_loop::run(is_send(resolve(name, 80, timeout))).unwrap()
}

fn some_names_need_no_child() {
    for (name, address) in [
        ("127.0.0.2", "127.0.0.2:80"),
        ("::1", "[::1]:80"),
        ("localhost", "127.0.0.1:80"),
        ("bucket.localhost", "127.0.0.1:80"),
    ] {
        assert_eq!(look_up(name, 0.0).unwrap(), [address.parse().unwrap()], "{name}");
    }
}

fn a_child_looks_up_the_others() {
    // /etc/hosts has it, whatever the case; we compare it as it is.
    let found = look_up("LOCALHOST", 10.0).unwrap();
    assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
}

fn what_does_not_exist_is_named() {
    // Reserved (RFC 2606). Without a network, the message is another.
    let error = look_up("nowhere.invalid", 20.0).unwrap_err();
    assert_eq!(error.name, "nowhere.invalid");
    let text = error.to_string();
    assert!(text.starts_with("the host name nowhere.invalid has no known address: "), "{text}");
    assert!(look_up("", 1.0).is_err());
}

fn the_time_is_limited() {
    let start = Instant::now();
    let error = look_up("nowhere.invalid", 0.0).unwrap_err();
    assert!(error.problem.contains("no name server answered within 0 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}
