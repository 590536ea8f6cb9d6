//! `load --to ADDRESS …`: sends load, prints one JSON object. See `load --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use load::options::Options;

/// Exit codes: 0: all responses were correct. 1: no request could be made. 3: some responses were wrong or missing.
fn main() -> ExitCode {
    let options = Options::parse();
    let report = match event_loop::run(load::run::run(options)) {
        Ok(Ok(report)) => report,
        Ok(Err(message)) => {
            eprintln!("load: {message}.");
            return ExitCode::from(1);
        }
        Err(error) => {
            eprintln!("load: the event loop cannot run: {error}.");
            return ExitCode::from(1);
        }
    };
    println!("{}", report.to_json());
    if report.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) }
}
