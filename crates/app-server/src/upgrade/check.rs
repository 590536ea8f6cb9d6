//! The check of a version: a child process that runs it with dedicated arguments, and a deadline.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::BytesMut;
use event_loop::pipe::Reader;
use event_loop::time;
use process::fork::{self, ForkOptions};
use process::reexec::Image;
use process::{is_short, is_short_for_process};

use crate::upgrade::verdicts::Verdict;

/// How a version is checked.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// The arguments that follow the program's name.
    pub(crate) arguments: Vec<OsString>,
    /// The line that a version must print to pass.
    pub(crate) marker: String,
    pub(crate) deadline: Duration,
}

/// How long to wait for a file that is still being written.
pub(crate) const WRITE_PATIENCE: Duration = Duration::from_secs(10);

const WRITE_INTERVAL: Duration = Duration::from_millis(100);

/// Why there is no verdict on a file that is open for writing (ETXTBSY).
const BEING_WRITTEN: &str = "it is still being written";

/// What the child prints, followed by the error number, when the version cannot even be executed.
const EXEC_FAILED: &str = "app-server: execve failed: ";

/// How many bytes of a check's output are kept.
const OUTPUT_BYTES: usize = 8 * 1024;

impl Check {
    /// Checks the version at `program`.
    pub(crate) async fn run(&self, program: &Path) -> Verdict {
        let deadline = time::now() + WRITE_PATIENCE;
        loop {
            match self.run_once(program).await {
                Verdict::Unknown(why) if why == BEING_WRITTEN && time::now() < deadline => {
                    time::sleep(WRITE_INTERVAL).await;
                }
                verdict => return verdict,
            }
        }
    }

    async fn run_once(&self, program: &Path) -> Verdict {
        // Missing, it cannot be executed, which is said below.
        let foreign = fs::metadata(program)
            .and_then(|found| atomic_file::foreign_owner(program, &found))
            .unwrap_or_default();
        if let Some(owner) = foreign {
            return Verdict::Failed(owner.to_string());
        }
        let arguments = [program.as_os_str()].into_iter();
        let arguments = arguments.chain(self.arguments.iter().map(OsString::as_os_str));
        // A check is started by a program, not by a web server for a request.
        let variables = std::env::vars_os().filter(|(name, _)| name != "GATEWAY_INTERFACE");
        let image = match Image::prepare(program, arguments, variables) {
            Ok(image) => image,
            Err(error) => return Verdict::Failed(format!("it cannot be executed: {error}")),
        };
        let options = ForkOptions { captures_output: true, ..ForkOptions::default() };
        let child = fork::fresh(options, move || {
            let error = image.exec_plainly();
            let code = error.raw_os_error().unwrap_or_default();
            // If the output is lost, the exit code still reports the failure.
            let _ = writeln!(io::stdout(), "{EXEC_FAILED}{code}");
            1
        });
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                return Verdict::Unknown(format!("no process could be created for it: {error}"));
            }
        };
        let output = event_loop::spawn(read_output(child.stderr.take()));
        let ending = time::timeout(self.deadline, child.wait()).await;
        // Kills whatever the check has left behind.
        drop(child);
        match ending {
            Err(_) => Verdict::Failed(format!(
                "its check timed out after {} s",
                self.deadline.as_secs_f64()
            )),
            Ok(Err(error)) => Verdict::Unknown(error.to_string()),
            Ok(Ok(status)) => {
                let output = output.await;
                let output = String::from_utf8_lossy(&output);
                let verdict = self.judge(status, &output);
                if verdict == Verdict::Passed {
                    for line in self.remarks(&output) {
                        tracing::warn!("Check passed with a remark: {line}");
                    }
                }
                verdict
            }
        }
    }

    /// What a check printed besides its marker.
    fn remarks<'a>(&self, output: &'a str) -> impl Iterator<Item = &'a str> {
        output.lines().map(str::trim).filter(|line| !line.is_empty() && *line != self.marker)
    }

    fn judge(&self, status: ExitStatus, output: &str) -> Verdict {
        if let Some(code) = output.lines().find_map(|line| line.strip_prefix(EXEC_FAILED)) {
            return not_executed(&io::Error::from_raw_os_error(code.parse().unwrap_or_default()));
        }
        if let Some(why) = output.lines().find_map(|line| line.strip_prefix(fork::NOT_STARTED))
            && error_in(why).is_some_and(|error| is_short(&error))
        {
            let why = why.trim_end_matches('.');
            return Verdict::Unknown(format!("no process could be started for it: {why}"));
        }
        if status.success() {
            return match output.lines().any(|line| line == self.marker) {
                true => Verdict::Passed,
                false => Verdict::Failed(
                    "it is a different program: its check does not say that it can serve"
                        .to_owned(),
                ),
            };
        }
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("its check was killed by signal {signal}"),
            (None, code) => format!("its check ended with exit code {}", code.unwrap_or(-1)),
        };
        let lines: Vec<&str> = self.remarks(output).collect();
        let printed: String = lines.join(" ").chars().take(400).collect();
        Verdict::Failed(match printed.trim_end_matches('.') {
            "" => how,
            printed => format!("{how} with the output: {printed}"),
        })
    }
}

/// Maps an error of execve(2) to a verdict.
fn not_executed(error: &io::Error) -> Verdict {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::ExecutableFileBusy, _) => Verdict::Unknown(BEING_WRITTEN.to_owned()),
        (io::ErrorKind::PermissionDenied, _) => {
            Verdict::Failed("permission denied; make it executable with: chmod 755".to_owned())
        }
        (_, Some(libc::ENOEXEC)) => Verdict::Failed(
            "it is not a program for this machine: it is damaged, or was built for another kind"
                .to_owned(),
        ),
        _ if is_short_for_process(error) => {
            Verdict::Unknown(format!("it cannot be executed now: {error}"))
        }
        _ => Verdict::Failed(format!("it cannot be executed: {error}")),
    }
}

/// Returns the system's error that a text ends with, as `io::Error` shows it: `… (os error 24)`.
fn error_in(text: &str) -> Option<io::Error> {
    let (_, code) = text.rsplit_once("(os error ")?;
    let (code, _) = code.split_once(')')?;
    code.parse().ok().map(io::Error::from_raw_os_error)
}

/// Reads a check's output to its end and keeps the first part.
async fn read_output(reader: Option<Reader>) -> Vec<u8> {
    let Some(mut reader) = reader else { return Vec::new() };
    let mut kept = Vec::new();
    let mut buffer = BytesMut::new();
    loop {
        buffer.clear();
        buffer.reserve(OUTPUT_BYTES);
        match std::future::poll_fn(|context| reader.poll_read_into(context, &mut buffer)).await {
            Ok(0) | Err(_) => return kept,
            Ok(_) => {
                let room = OUTPUT_BYTES.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..buffer.len().min(room)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn exit_statuses_and_outputs_become_verdicts() {
        let check = Check {
            arguments: Vec::new(),
            marker: "marker".to_owned(),
            deadline: Duration::from_secs(1),
        };
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        let failed = |why: &str| Verdict::Failed(why.to_owned());
        for (status, output, verdict) in [
            (exit(0), "a\nmarker\nb\n", Verdict::Passed),
            (
                exit(0),
                "a marker\n",
                failed("it is a different program: its check does not say that it can serve"),
            ),
            (exit(3), "", failed("its check ended with exit code 3")),
            (
                exit(3),
                " a\n\nb.\n",
                failed("its check ended with exit code 3 with the output: a b"),
            ),
            (ExitStatus::from_raw(9), "", failed("its check was killed by signal 9")),
            (
                exit(1),
                "app-server: execve failed: 26\n",
                Verdict::Unknown(BEING_WRITTEN.to_owned()),
            ),
            (
                exit(1),
                "app-server: execve failed: 13\n",
                failed("permission denied; make it executable with: chmod 755"),
            ),
            (
                exit(101),
                "A child process could not start: Operation not permitted (os error 1).\n",
                failed(
                    "its check ended with exit code 101 with the output: A child process could not \
                     start: Operation not permitted (os error 1)",
                ),
            ),
            // A shortage says nothing about the version.
            (
                exit(101),
                "A child process could not start: Too many open files (os error 24).\n",
                Verdict::Unknown(
                    "no process could be started for it: Too many open files (os error 24)"
                        .to_owned(),
                ),
            ),
            (
                exit(1),
                "app-server: execve failed: 24\n",
                Verdict::Unknown(
                    "it cannot be executed now: Too many open files (os error 24)".to_owned(),
                ),
            ),
        ] {
            assert_eq!(check.judge(status, output), verdict, "{output:?}");
        }
    }

    /// In a sticky folder such as `/tmp` anybody can put a file beside the program.
    #[test]
    fn a_program_of_another_account_is_not_executed() {
        let folder = tempfile::tempdir().unwrap();
        let (program, ran) = (folder.path().join("program.new"), folder.path().join("ran"));
        let check = Check {
            arguments: vec![ran.clone().into()],
            marker: "marker".to_owned(),
            deadline: Duration::from_secs(10),
        };
        fs::write(&program, "#!/bin/sh\n>\"$1\"\necho marker\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let verdict = || event_loop::run(check.run(&program)).unwrap();
        let is_refused =
            |verdict| matches!(verdict, Verdict::Failed(why) if why.contains("another account"));
        assert!(!is_refused(verdict()), "our own");
        // Only root can give a file to another account.
        if std::os::unix::fs::chown(&program, Some(65534), None).is_ok() {
            let _ = fs::remove_file(&ran);
            assert!(is_refused(verdict()) && !ran.exists());
            std::os::unix::fs::chown(&program, Some(0), None).unwrap();
            let link = folder.path().join("link.new");
            std::os::unix::fs::symlink(&program, &link).unwrap();
            std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
            assert!(is_refused(event_loop::run(check.run(&link)).unwrap()) && !ran.exists());
        }
    }
}
