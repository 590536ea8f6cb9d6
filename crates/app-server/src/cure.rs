//! What to do about failures that only happen on this server or on a host, and whose messages do not say so.

/// Returns a sentence to append to the message of a panic or an error, with its separator; empty if the message is of
/// another kind.
///
/// Known are what needs tokio where there is none, what needs a second thread of it, and threads that the system refuses.
pub fn cure_of(message: &str) -> &'static str {
    let cure = CURES.iter().find(|(texts, _)| texts.iter().any(|text| message.contains(text)));
    cure.map_or("", |(_, cure)| cure)
}

/// What messages contain, and their cure. The first that fits counts.
const CURES: [(&[&str], &str); 4] = [
    // tokio outside of a runtime: its timers and sockets, `spawn`; sqlx says it in its place.
    (
        &["there is no reactor running", "this functionality requires a Tokio context"],
        ". It needs tokio: run the server in it (hosted's feature `tokio`, or `Server::run_in_tokio`)",
    ),
    // `block_in_place`.
    (
        &["can call blocking only when running on the multi-threaded runtime"],
        ". The server has one thread: call what is short directly (docs/your-own-app.md)",
    ),
    // std, tokio and rayon, when the system refuses a thread.
    (
        &["failed to spawn thread", "OS can't spawn worker thread", "ThreadPoolBuildError"],
        ". The host refuses threads, as many do: do this without one (docs/your-own-app.md)",
    ),
    // The same, where a library passes on only EAGAIN, which has other causes, too (as text, and as Rust's `Debug`), or
    // what follows from it (futures-timer).
    (
        &[
            "Resource temporarily unavailable (os error 11)",
            "Os { code: 11, kind: WouldBlock",
            "timer has gone away",
        ],
        ". Often this is a thread that the host refuses: do this without one (docs/your-own-app.md)",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_only_happens_here_has_its_cure() {
        for (message, cure) in [
            // tokio 1.54.
            (
                "there is no reactor running, must be called from the context of a Tokio 1.x runtime, at a.rs:1",
                "It needs tokio",
            ),
            ("can call blocking only when running on the multi-threaded runtime", "one thread"),
            (
                "OS can't spawn worker thread: Resource temporarily unavailable (os error 11)",
                "The host refuses threads",
            ),
            // sqlx 0.9.
            ("this functionality requires a Tokio context", "It needs tokio"),
            (
                "error communicating with database: Resource temporarily unavailable (os error 11)",
                "Often this is a thread that the host refuses",
            ),
            // std 1.95.
            (
                "failed to spawn thread: Os { code: 11, kind: WouldBlock, message: \"Resource temporarily unavailable\" }",
                "The host refuses threads",
            ),
            // futures-timer 3.0.
            ("timer has gone away", "Often this is a thread that the host refuses"),
            // scheduled-thread-pool 0.2, of r2d2.
            (
                "called `Result::unwrap()` on an `Err` value: Os { code: 11, kind: WouldBlock, message: \"Resource \
                 temporarily unavailable\" }",
                "Often this is a thread that the host refuses",
            ),
        ] {
            assert!(cure_of(message).contains(cure), "{message}");
        }
        for other in ["x", "Os { code: 110, kind: TimedOut }", "(os error 111)"] {
            assert_eq!(cure_of(other), "", "{other}");
        }
    }
}
