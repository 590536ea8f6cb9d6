//! Tries to start a thread, prints the result, and exits with 0 if it was started, otherwise with 1.

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
