//! error: a router needs `.with_state(…)`, and a handler needs a router: `Failing` is not a service
//! label: has to return a service (such as `Router`), or a `Result` with one, or a future of these
//! note: a service must not fail: in axum, `HandleError` makes responses of errors

use crate::parts::Failing;

fn main() -> std::process::ExitCode {
    hosted::main(|| Failing)
}
