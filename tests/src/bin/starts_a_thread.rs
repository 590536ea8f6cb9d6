//! Tries to start a thread, says how that went, and exits with 0 when it was started, 1 when not.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::thread::Builder::new().spawn(|| ()) {
        Ok(thread) => {
            let _ = thread.join();
            println!("started");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("refused: {error}");
            ExitCode::FAILURE
        }
    }
}
