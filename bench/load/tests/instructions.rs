//! How many instructions a request takes in the real programs, counted by callgrind and compared with
//! the numbers in `bench/instructions.toml`.
//!
//! Processor time is noisy; instruction counts in user mode are reproducible to a fraction of a percent
//! with the same compiler. The difference between runs of 200 and of 100 requests excludes startup and
//! exit. Instructions in the kernel are not counted: `bench/run` counts system calls.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A larger increase fails the test.
const MOST_RISE: f64 = 1.05;

/// Set this variable to write new numbers instead of comparing.
const UPDATE: &str = "UPDATE_INSTRUCTIONS";

/// Program, scenario, and the arguments of the load generator for it.
const CASES: [(&str, &str, &[&str]); 7] = [
    ("hello", "keep_alive_connection", &[]),
    // With pauses: otherwise it would be chance whether the next connection is already pending.
    ("hello", "new_connections", &["--new-connections", "--pause", "5"]),
    ("hello", "32_in_flight", &["--in-flight", "32"]),
    ("hello", "post_of_16_kib", &["--body", "16384"]),
    ("axum", "keep_alive_connection", &[]),
    ("axum", "new_connections", &["--new-connections", "--pause", "5"]),
    ("site", "keep_alive_connection", &["--path", "/healthz"]),
];

#[test]
#[cfg_attr(debug_assertions, ignore = "the numbers are those of the release profile")]
fn no_request_takes_more_instructions_than_it_did() {
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    assert!(
        valgrind.is_ok_and(|status| status.success()),
        "valgrind is missing. It is a Debian package; tests/run installs it."
    );
    let programs = build();
    let counted: Vec<u64> = CASES
        .iter()
        .map(|(program, _, arguments)| {
            let program = &programs[program];
            count(program, arguments, 200).saturating_sub(count(program, arguments, 100)) / 100
        })
        .collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../instructions.toml");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, written(&counted)).unwrap();
        return;
    }
    let (compiler, known) = read(&fs::read_to_string(&file).unwrap());
    let mut risen = String::new();
    for ((program, conversation, _), now) in CASES.iter().zip(&counted) {
        let before = *known.get(&format!("{program}.{conversation}")).unwrap_or(&0);
        let change = *now as f64 / before as f64;
        println!(
            "{program}, {conversation}: {now} instructions a request, {change:.3} of {before}"
        );
        if change > MOST_RISE {
            let percent = (change - 1.0) * 100.0;
            writeln!(risen, "{program}, {conversation}: {before} -> {now} (+{percent:.1} %)")
                .unwrap();
        }
    }
    assert!(
        risen.is_empty(),
        "A request takes more instructions than it did:\n{risen}\
         The old numbers are of {compiler}, the new of {}. Where the time goes: callgrind_annotate, \
         see docs/performance.md. If the rise is worth it, write the new numbers down and say why \
         in the commit:\n    {UPDATE}=1 cargo test --release -p load --test instructions",
        rustc()
    );
}

/// Builds the programs as their users do, one by one, so that no feature of another package is enabled.
fn build() -> BTreeMap<&'static str, PathBuf> {
    let cargo = |arguments: &[&str]| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet"])
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success(), "cargo build {arguments:?} failed");
    };
    // This file's own program is in TARGET/release/deps.
    let this = std::env::current_exe().unwrap();
    let target = this.ancestors().nth(3).unwrap();
    let folder = target.join("instructions");
    fs::create_dir_all(&folder).unwrap();
    // The workspace's tests leave programs with other features in the same places, so copy at once.
    let keep = |from: &str, name| {
        let program = folder.join(name);
        fs::copy(target.join("release").join(from), &program).unwrap();
        (name, program)
    };
    cargo(&["-p", "hello", "-p", "axum-example"]);
    let (hello, axum) = (keep("hello", "hello"), keep("axum", "axum"));
    cargo(&["-p", "toolshed"]);
    [hello, axum, keep("toolshed", "site")].into()
}

/// Counts the instructions of a program from start to exit, with this many requests in between.
fn count(program: &Path, arguments: &[&str], requests: u32) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = OwnedFd::from(UnixListener::bind(&socket).unwrap());
    let counts = folder.path().join("counts");
    let server = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(program)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TOOLSHED_LOG", folder.path().join("log"))
        .current_dir(&folder)
        .stdin(listener)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut server = Server(server.unwrap());
    let load = Command::new(env!("CARGO_BIN_EXE_load"))
        .arg("--to")
        .arg(format!("unix:{}", socket.display()))
        .args(["--patience", "60", "--requests"])
        .arg(requests.to_string())
        .args(arguments)
        .output()
        .unwrap();
    assert!(load.status.success(), "{}", String::from_utf8_lossy(&load.stdout));
    server.end();
    let counts = fs::read_to_string(counts).unwrap();
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: "));
    total.expect("callgrind writes a total").trim().parse().unwrap()
}

/// A program that is shut down gracefully, because only then callgrind writes its numbers.
struct Server(Child);

impl Server {
    fn end(&mut self) {
        let killed = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(killed.unwrap().success());
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rustc() -> String {
    let version = Command::new("rustc").arg("--version").output().unwrap();
    String::from_utf8(version.stdout).unwrap().trim().to_owned()
}

fn written(counted: &[u64]) -> String {
    let mut text = format!(
        "# Instructions a request takes in user mode, counted by callgrind.\n\
         # Written by: {UPDATE}=1 cargo test --release -p load --test instructions\n\
         compiler = \"{}\"\n",
        rustc()
    );
    let mut section = "";
    for ((program, conversation, _), instructions) in CASES.iter().zip(counted) {
        if section != *program {
            section = program;
            write!(text, "\n[{program}]\n").unwrap();
        }
        writeln!(text, "{conversation} = {instructions}").unwrap();
    }
    text
}

/// Returns the compiler, and the numbers by `program.scenario`. The file is so simple that it needs no TOML
/// parser.
fn read(text: &str) -> (String, BTreeMap<String, u64>) {
    let (mut compiler, mut numbers, mut section) = (String::new(), BTreeMap::new(), "");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((name, value)) = line.split_once(" = ") {
            match value.parse() {
                Ok(number) => {
                    numbers.insert(format!("{section}.{name}"), number);
                }
                Err(_) => compiler = value.trim_matches('"').to_owned(),
            }
        }
    }
    (compiler, numbers)
}

#[test]
fn what_is_written_can_be_read() {
    let numbers: Vec<u64> = (1..=CASES.len() as u64).collect();
    let (compiler, read) = read(&written(&numbers));
    assert_eq!(compiler, rustc());
    for ((program, conversation, _), number) in CASES.iter().zip(numbers) {
        assert_eq!(read.get(&format!("{program}.{conversation}")), Some(&number));
    }
}
