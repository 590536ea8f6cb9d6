//! What needs a process of its own: killing it, changing its account, and forks, which a
//! second thread forbids.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod kill;
mod limits;

use std::process::ExitCode;

use case_runner::Ending::Success;

fn main() -> ExitCode {
    case_runner::main(
        &[
            ("killed_at_any_moment_nothing_is_lost", kill::nothing_is_lost, Success),
            ("after_any_failed_call", limits::after_any_failed_call_nothing_is_half_there, Success),
            ("what_another_account_owns", limits::what_another_account_owns_is_named, Success),
        ],
        &[("putter", kill::putter), ("replacer", limits::replacer)],
    )
}
