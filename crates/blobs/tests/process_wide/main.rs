//! What needs a process of its own: killing it, changing its account, and forks, which a
//! second thread forbids.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod copy;
mod kill;
mod limits;
mod s3;
mod sweep;

use std::process::ExitCode;

use case_runner::Ending::Success;

fn main() -> ExitCode {
    case_runner::main(
        &[
            ("killed_at_any_moment_nothing_is_lost", kill::nothing_is_lost, Success),
            ("several_processes_share_a_folder", kill::several_processes_share_a_folder, Success),
            ("a_killed_copy_is_run_again", copy::a_killed_copy_is_run_again, Success),
            ("after_any_failed_call", limits::after_any_failed_call_nothing_is_half_there, Success),
            ("what_another_account_owns", limits::what_another_account_owns_is_named, Success),
            ("a_sweep_is_bounded", sweep::a_sweep_is_bounded_and_the_next_one_continues, Success),
            ("a_fork_has_connections_of_its_own", s3::a_fork_has_connections_of_its_own, Success),
            ("names_are_looked_up_by_a_child", s3::names_are_looked_up_by_a_child, Success),
        ],
        &[("copier", copy::copier), ("putter", kill::putter), ("replacer", limits::replacer)],
    )
}
