//! The pool with a real PostgreSQL. Each case runs in its own process with one thread, the loop's, and with a server of
//! its own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure, in its helpers too")]

mod common;
mod connecting;
mod forks;
mod pooling;
mod statements;
mod tls;

use std::process::ExitCode;

use case_runner::{Case, Ending, Helper};

/// (name, what runs in its own process, how that ends)
const CASES: &[Case] = &[
    ("the_unix_socket", connecting::the_unix_socket, Ending::Success),
    ("tcp_with_a_password", connecting::tcp_with_a_password, Ending::Success),
    ("names_are_resolved", connecting::names_are_resolved, Ending::Success),
    ("errors_say_what_is_wrong", connecting::errors_say_what_is_wrong, Ending::Success),
    ("the_password_is_in_no_log", connecting::the_password_is_in_no_log, Ending::Success),
    ("a_server_that_shuts_down", connecting::a_server_that_shuts_down, Ending::Success),
    ("a_server_that_does_not_respond", connecting::a_server_that_does_not_respond, Ending::Success),
    ("another_host_is_tried", connecting::another_host_is_tried, Ending::Success),
    (
        "a_host_that_does_not_respond_is_waited_for_once",
        connecting::a_host_that_does_not_respond_is_waited_for_once,
        Ending::Success,
    ),
    (
        "a_server_that_hangs_is_left_for_another_one",
        connecting::a_server_that_hangs_is_left_for_another_one,
        Ending::Success,
    ),
    ("certificates_are_verified", tls::certificates_are_verified, Ending::Success),
    ("no_tls_is_an_error", tls::no_tls_is_an_error, Ending::Success),
    ("logins_are_bound_to_their_channel", tls::logins_are_bound_to_their_channel, Ending::Success),
    ("statements_are_cancelled_over_tls", tls::statements_are_cancelled_over_tls, Ending::Success),
    ("connections_are_reused", pooling::connections_are_reused, Ending::Success),
    ("callers_wait_in_order", pooling::callers_wait_in_order, Ending::Success),
    ("waiting_has_limits", pooling::waiting_has_limits, Ending::Success),
    ("callers_that_go_leave_nothing", pooling::callers_that_go_leave_nothing, Ending::Success),
    ("idle_connections_are_closed", pooling::idle_connections_are_closed, Ending::Success),
    ("a_restarted_server", pooling::a_restarted_server, Ending::Success),
    ("a_server_restarted_under_load", pooling::a_server_restarted_under_load, Ending::Success),
    ("a_terminated_connection", pooling::a_terminated_connection, Ending::Success),
    ("a_server_that_is_stopped", pooling::a_server_that_is_stopped, Ending::Success),
    ("slow_statements_end", statements::slow_statements_end, Ending::Success),
    (
        "dropped_statements_are_cancelled",
        statements::dropped_statements_are_cancelled,
        Ending::Success,
    ),
    (
        "dropped_transactions_are_rolled_back",
        statements::dropped_transactions_are_rolled_back,
        Ending::Success,
    ),
    ("prepared_statements_are_kept", statements::prepared_statements_are_kept, Ending::Success),
    ("rows_are_streamed", statements::rows_are_streamed, Ending::Success),
    (
        "a_fresh_child_has_its_own_connection",
        forks::a_fresh_child_has_its_own_connection,
        Ending::Success,
    ),
    ("children_draw_their_own_nonces", forks::children_draw_their_own_nonces, Ending::Success),
    (
        "a_draining_child_keeps_its_connections",
        forks::a_draining_child_keeps_its_connections,
        Ending::Success,
    ),
];

/// Started by cases, not by the runner.
const HELPERS: &[Helper] = &[("draining_helper", forks::draining_helper)];

fn main() -> ExitCode {
    case_runner::main(CASES, HELPERS)
}
