//! The check of a version: a child process that runs it with dedicated arguments, and a deadline.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use event_loop::pipe::{self, Reader};
use event_loop::time;
use process::descriptors::set_blocking;
use process::reexec::Image;
use process::{Child, Command, is_short_for_process};

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

/// How many bytes of a check's output are kept of its beginning, and again of its end: an application may log a lot before
/// it prints the marker.
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
        let (mut child, output) = match start(image) {
            Ok(started) => started,
            Err(error) => return not_executed(&error),
        };
        let output = event_loop::spawn(read_output(output));
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

/// Starts the program, with one pipe for all that it prints. A process may have threads when it does so: nothing but system
/// calls comes between fork and exec.
fn start(image: Image) -> io::Result<(Child, Reader)> {
    let (reader, writer) = pipe::ends()?;
    set_blocking(writer.as_fd())?;
    let output = Reader::from_fd(reader)?;
    let mut command = Command::of(image);
    let command = command.lead_group().stdin(Stdio::null());
    let child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    Ok((child, output))
}

/// Maps an error of fork(2) or execve(2) to a verdict.
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
        // A shortage says nothing about the version.
        _ if is_short_for_process(error) => {
            Verdict::Unknown(format!("no process could be created for it: {error}"))
        }
        _ => Verdict::Failed(format!("it cannot be executed: {error}")),
    }
}

/// Reads a check's output to its end and keeps the first and the last part.
async fn read_output(mut reader: Reader) -> Vec<u8> {
    let mut kept = Kept::default();
    let mut buffer = BytesMut::new();
    loop {
        buffer.clear();
        buffer.reserve(OUTPUT_BYTES);
        match std::future::poll_fn(|context| reader.poll_read_into(context, &mut buffer)).await {
            Ok(0) | Err(_) => return kept.into_bytes(),
            Ok(_) => kept.add(&buffer),
        }
    }
}

/// The first and the last part of an output.
#[derive(Default)]
struct Kept {
    first: Vec<u8>,
    last: Vec<u8>,
    is_cut: bool,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let room = OUTPUT_BYTES - self.first.len();
        let (first, last) = bytes.split_at(bytes.len().min(room));
        self.first.extend_from_slice(first);
        self.last.extend_from_slice(last);
        let excess = self.last.len().saturating_sub(OUTPUT_BYTES);
        self.last.drain(..excess);
        self.is_cut |= excess > 0;
    }

    fn into_bytes(mut self) -> Vec<u8> {
        if self.is_cut {
            self.first.push(b'\n');
            let cut = self.last.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            self.last.drain(..cut);
        }
        self.first.append(&mut self.last);
        self.first
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
        ] {
            assert_eq!(check.judge(status, output), verdict, "{output:?}");
        }
    }

    #[test]
    fn errors_of_the_start_become_verdicts() {
        let failed = |why: &str| Verdict::Failed(why.to_owned());
        let unknown = |why: &str| Verdict::Unknown(why.to_owned());
        for (code, verdict) in [
            (libc::ETXTBSY, unknown(BEING_WRITTEN)),
            (libc::EACCES, failed("permission denied; make it executable with: chmod 755")),
            (
                libc::ELOOP,
                failed("it cannot be executed: Too many levels of symbolic links (os error 40)"),
            ),
            (
                libc::EMFILE,
                unknown("no process could be created for it: Too many open files (os error 24)"),
            ),
            (
                libc::EAGAIN,
                unknown(
                    "no process could be created for it: Resource temporarily unavailable (os error 11)",
                ),
            ),
        ] {
            assert_eq!(not_executed(&io::Error::from_raw_os_error(code)), verdict);
        }
    }

    /// Other than a shell would: a text is no program.
    #[test]
    fn a_text_is_not_run_as_commands() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program.new");
        fs::write(&program, "echo marker\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let check = Check {
            arguments: Vec::new(),
            marker: "marker".to_owned(),
            deadline: Duration::from_secs(10),
        };
        let verdict = event_loop::run(check.run(&program)).unwrap();
        assert!(
            matches!(&verdict, Verdict::Failed(why) if why.contains("not a program")),
            "{verdict:?}"
        );
    }

    /// As many applications have threads from their start.
    #[test]
    fn a_process_with_threads_checks_too() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program.new");
        fs::write(&program, "#!/bin/sh\necho $1\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let check = Check {
            arguments: vec!["marker".into()],
            marker: "marker".to_owned(),
            deadline: Duration::from_secs(10),
        };
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || ended.recv());
        assert_eq!(event_loop::run(check.run(&program)).unwrap(), Verdict::Passed);
        drop(end);
        let _ = thread.join();
    }

    #[test]
    fn a_version_that_logs_a_lot_passes() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program.new");
        let lines = 4 * OUTPUT_BYTES / "a line of its log\n".len();
        let script = format!(
            "#!/bin/sh\ni=0\nwhile [ $i -lt {lines} ]; do echo a line of its log; i=$((i+1)); done\necho marker\n"
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let check = Check {
            arguments: Vec::new(),
            marker: "marker".to_owned(),
            deadline: Duration::from_secs(10),
        };
        assert_eq!(event_loop::run(check.run(&program)).unwrap(), Verdict::Passed);
    }

    #[test]
    fn of_a_long_output_whole_lines_are_kept() {
        let mut kept = Kept::default();
        for number in 0..10_000 {
            kept.add(format!("line {number}\n").as_bytes());
        }
        let text = String::from_utf8(kept.into_bytes()).unwrap();
        assert!(text.starts_with("line 0\nline 1\n") && text.ends_with("\nline 9999\n"));
        assert!(text.len() <= 2 * OUTPUT_BYTES + 1, "{}", text.len());
        let last = text.lines().rev().take(500);
        assert!(last.enumerate().all(|(back, line)| *line == format!("line {}", 9999 - back)));
        let mut short = Kept::default();
        (0..100).for_each(|_| short.add(b"line\n"));
        assert_eq!(short.into_bytes(), b"line\n".repeat(100));
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
