//! What a command that ends says, and with which exit code.
//!
//! 0: done. 1: the machine refused. 2: the command line is wrong.

use std::process::ExitCode;

/// Tells a failure in one sentence on standard error.
pub(crate) fn exit_code(outcome: Result<(), app_server::Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toolshed: {error}");
            ExitCode::from(1)
        }
    }
}

/// Prints help, the version or what is wrong with the command line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // When even this cannot be written, the exit code says it.
    let _ = error.print();
    ExitCode::from(error.exit_code().clamp(0, 255) as u8)
}
