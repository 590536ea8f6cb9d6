//! What concerns the whole process: children, forks, re-exec, the standard descriptors. Each case runs in its own
//! process with one thread, the loop's.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure, in its helpers too")]
#![allow(clippy::async_yields_async, reason = "what outlives its loop is tested")]

mod common;
mod descriptors;
mod draining;
mod forks;
mod programs;
mod reexec;

use std::process::ExitCode;

use case_runner::{Case, Ending, Helper};

/// (name, what runs in its own process, how that ends)
const CASES: &[Case] = &[
    ("a_listener_on_stdin", descriptors::a_listener_on_stdin, Ending::Success),
    ("output_is_redirected", descriptors::output_is_redirected, Ending::Success),
    ("children_start_no_thread", programs::children_start_no_thread, Ending::Success),
    (
        "sigchld_is_caught_from_the_first_child_on",
        programs::sigchld_is_caught_from_the_first_child_on,
        Ending::Success,
    ),
    ("children_inherit_nothing", programs::children_inherit_nothing, Ending::Success),
    (
        "no_zombies_and_no_descriptors_are_left",
        programs::no_zombies_and_no_descriptors_are_left,
        Ending::Success,
    ),
    (
        "children_of_other_code_are_not_reaped",
        programs::children_of_other_code_are_not_reaped,
        Ending::Success,
    ),
    ("programs_have_three_descriptors", programs::programs_have_three_descriptors, Ending::Success),
    ("programs_have_limits", programs::programs_have_limits, Ending::Success),
    ("programs_have_a_deadline", programs::programs_have_a_deadline, Ending::Success),
    ("the_rest_of_a_group_is_killed", programs::the_rest_of_a_group_is_killed, Ending::Success),
    ("values_are_computed", forks::values_are_computed, Ending::Success),
    ("computing_has_limits", forks::computing_has_limits, Ending::Success),
    ("a_crash_only_affects_the_child", forks::a_crash_only_affects_the_child, Ending::Success),
    ("a_forked_child_is_fresh", forks::a_forked_child_is_fresh, Ending::Success),
    (
        "a_forked_child_dies_with_its_parent",
        forks::a_forked_child_dies_with_its_parent,
        Ending::Success,
    ),
    (
        "a_dropped_computation_leaves_nothing",
        forks::a_dropped_computation_leaves_nothing,
        Ending::Success,
    ),
    (
        "two_hundred_computations_leave_nothing",
        forks::two_hundred_computations_leave_nothing,
        Ending::Success,
    ),
    ("threads_refuse_a_fork", forks::threads_refuse_a_fork, Ending::Success),
    ("no_more_processes", forks::no_more_processes, Ending::Success),
    ("a_program_replaces_itself", reexec::a_program_replaces_itself, Ending::Success),
    (
        "a_draining_child_completes_what_is_in_flight",
        draining::a_draining_child_completes_what_is_in_flight,
        Ending::Success,
    ),
    (
        "a_draining_child_exits_when_the_original_continues",
        draining::a_draining_child_exits_when_the_original_continues,
        Ending::Success,
    ),
];

/// Started by cases, not by the runner.
const HELPERS: &[Helper] = &[
    ("listener_on_stdin_helper", descriptors::listener_on_stdin_helper),
    ("descriptors_helper", programs::descriptors_helper),
    ("parent_helper", forks::parent_helper),
    ("no_more_processes_helper", forks::no_more_processes_helper),
    ("replaced_helper", reexec::replaced_helper),
    ("draining_helper", draining::draining_helper),
];

fn main() -> ExitCode {
    case_runner::main(CASES, HELPERS)
}
