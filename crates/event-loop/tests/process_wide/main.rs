//! What concerns the whole process: signals, the number of threads, descriptors, system calls. Each case runs in
//! its own process with one thread, the loop's.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure, in its helpers too")]
#![allow(clippy::async_yields_async, reason = "what outlives its loop is tested")]

mod signals;
mod sockets;

use std::process::ExitCode;

use case_runner::{Case, Ending, Helper};

/// (name, what runs in its own process, how that ends)
const CASES: &[Case] = &[
    ("a_signal_wakes_the_idle_loop", signals::a_signal_wakes_the_idle_loop, Ending::Success),
    ("terminate_twice", signals::terminate_twice, Ending::Success),
    ("each_listener_receives", signals::each_listener_receives, Ending::Success),
    (
        "without_a_listener_the_former_action_is_restored",
        signals::without_a_listener_the_former_action_is_restored,
        Ending::Signal(15),
    ),
    ("an_ended_loop_catches_nothing", signals::an_ended_loop_catches_nothing, Ending::Signal(1)),
    ("dispositions", signals::dispositions, Ending::Success),
    ("signals_under_fire", signals::signals_under_fire, Ending::Success),
    ("a_broken_pipe_is_an_error", signals::a_broken_pipe_is_an_error, Ending::Success),
    ("there_is_one_thread", sockets::there_is_one_thread, Ending::Success),
    ("too_many_open_files", sockets::too_many_open_files, Ending::Success),
    ("one_of_many_servers_binds", sockets::one_of_many_servers_binds, Ending::Success),
    ("system_calls_of_a_request", sockets::system_calls_of_a_request, Ending::Success),
    (
        "a_future_that_never_waits_opens_no_descriptor",
        sockets::a_future_that_never_waits_opens_no_descriptor,
        Ending::Success,
    ),
];

/// Started by cases, not by the runner.
const HELPERS: &[Helper] = &[
    ("few_descriptors_helper", sockets::few_descriptors_helper),
    ("bind_helper", sockets::bind_helper),
    ("serve_helper", sockets::serve_helper),
];

fn main() -> ExitCode {
    case_runner::main(CASES, HELPERS)
}
