//! `tries-crates PROGRAM PAGE [CASE…]` tries each case of examples/popular-crates in every way in which a host may run it, and
//! writes the table of PAGE (docs/popular-crates.md) between its markers. examples/popular-crates/run calls it.
//!
//! `attempt.rs` starts the program once and looks at it, `servers.rs` has what the cases connect to, `verdict.rs` says what
//! all attempts at a case amount to, `page.rs` writes it down.

mod attempt;
mod page;
mod servers;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::Deserialize;

use crate::attempt::{Attempts, Way};
use crate::servers::Servers;
use crate::verdict::Verdict;

/// Cases of one subject, as the program describes them.
#[derive(Deserialize)]
struct Group {
    heading: String,
    cases: Vec<Case>,
}

/// One crate, or a part of it.
#[derive(Deserialize)]
struct Case {
    name: String,
    package: String,
    version: String,
    what: String,
    expects: String,
    note: String,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(program), Some(page)) = (arguments.next(), arguments.next()) else {
        eprintln!("tries-crates: use: tries-crates PROGRAM PAGE [CASE…]");
        return ExitCode::from(2);
    };
    let only: Vec<_> = arguments.map(|case| case.to_string_lossy().into_owned()).collect();
    match run(&program, &page, &only) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tries-crates: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tries the cases. The page is written only if all were tried.
fn run(program: &Path, page: &Path, only: &[String]) -> Result<(), String> {
    let servers = Servers::start().map_err(|error| format!("no servers: {error}"))?;
    let attempts = Attempts::new(program, &servers).map_err(|error| error.to_string())?;
    attempts.check_filter()?;
    let groups = describe(program)?;
    let mut tried = Vec::new();
    let mut problems = Vec::new();
    for group in &groups {
        let mut rows = Vec::new();
        for case in &group.cases {
            if !only.is_empty() && !only.contains(&case.name) {
                continue;
            }
            let verdict = try_case(&attempts, case, &mut problems)?;
            println!("{}", page::row(case, &verdict));
            rows.push((case, verdict));
        }
        tried.push((group.heading.as_str(), rows));
    }
    if only.is_empty() {
        page::write(page, &tried)?;
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Tries one case in every way, and adds what no application should meet: a hang, another result over another transport, a
/// process that has ended, a refusal that names no cure.
fn try_case(
    attempts: &Attempts<'_>,
    case: &Case,
    problems: &mut Vec<String>,
) -> Result<Verdict, String> {
    let mut outcomes = Vec::new();
    for way in Way::all() {
        let outcome = attempts
            .attempt(case, way)
            .map_err(|error| format!("{}, {way}: {error}", case.name))?;
        println!("  {}, {way}: {outcome}", case.name);
        outcomes.push((way, outcome));
    }
    let reload = attempts.reload(case).map_err(|error| format!("{}: {error}", case.name))?;
    println!("  {}, reload: {reload:?}", case.name);
    problems.extend(verdict::problems(&case.name, &outcomes));
    Ok(Verdict::of(&outcomes, reload))
}

/// Asks the program for its cases.
fn describe(program: &Path) -> Result<Vec<Group>, String> {
    let output = Command::new(program)
        .args(["request", "GET", "/"])
        // Cases that start threads are not made for this.
        .env("TRY_CASE", "none")
        .output()
        .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
    let response = String::from_utf8_lossy(&output.stdout);
    let (_, body) = response.split_once("\n\n").unwrap_or_default();
    serde_json::from_str(body).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{} does not describe its cases: {error}\n{said}", program.display())
    })
}

/// A text without what is different every time: places in sources, numbers of processes.
fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}
