//! `dispatch.fcgi` finds the program, or prints one sentence that says what is missing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use end_to_end::fixtures::project;
use end_to_end::program::write_executable;

/// A program that prints how it was started.
const PROGRAM: &str = "#!/bin/sh\necho \"started $0 with $# arguments from $TOOLSHED_LAUNCHER\"\n";

/// One row: the files of an account, and what the launcher does.
struct Case {
    name: &'static str,
    /// Files below the account's folder: name, text, mode.
    files: &'static [(&'static str, &'static [u8], u32)],
    /// The environment; `~` stands for the account's folder.
    environment: &'static [(&'static str, &'static str)],
    expect: Expect,
}

enum Expect {
    /// The program at this path is started.
    Started(&'static str),
    /// The launcher exits with this code and prints a sentence that contains these texts.
    Refused(i32, &'static [&'static str]),
}

const NEXT_TO_LAUNCHER: &str = "public_html/toolshed";
const NEXT_TO_ROOT: &str = "toolshed-home/toolshed";
const IN_HOME: &str = "toolshed/toolshed";
const HOME: (&str, &str) = ("HOME", "~");

/// An ELF header for another machine (s390), without a program.
const FOREIGN: &[u8] = b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16\0\0\0\x01 and so on";

const CASES: &[Case] = &[
    Case {
        name: "next to the launcher",
        files: &[(NEXT_TO_LAUNCHER, PROGRAM.as_bytes(), 0o755)],
        environment: &[],
        expect: Expect::Started(NEXT_TO_LAUNCHER),
    },
    Case {
        name: "next to the document root",
        files: &[(NEXT_TO_ROOT, PROGRAM.as_bytes(), 0o755)],
        environment: &[],
        expect: Expect::Started(NEXT_TO_ROOT),
    },
    Case {
        name: "in the home folder",
        files: &[(IN_HOME, PROGRAM.as_bytes(), 0o755)],
        environment: &[HOME],
        expect: Expect::Started(IN_HOME),
    },
    Case {
        name: "in TOOLSHED_HOME",
        files: &[("elsewhere/toolshed", PROGRAM.as_bytes(), 0o755)],
        environment: &[("TOOLSHED_HOME", "~/elsewhere")],
        expect: Expect::Started("elsewhere/toolshed"),
    },
    Case {
        name: "TOOLSHED_HOME comes first",
        files: &[
            ("elsewhere/toolshed", PROGRAM.as_bytes(), 0o755),
            (NEXT_TO_LAUNCHER, PROGRAM.as_bytes(), 0o755),
            (NEXT_TO_ROOT, PROGRAM.as_bytes(), 0o755),
        ],
        environment: &[("TOOLSHED_HOME", "~/elsewhere/")],
        expect: Expect::Started("elsewhere/toolshed"),
    },
    Case {
        name: "then next to the launcher",
        files: &[
            (NEXT_TO_LAUNCHER, PROGRAM.as_bytes(), 0o755),
            (NEXT_TO_ROOT, PROGRAM.as_bytes(), 0o755),
            (IN_HOME, PROGRAM.as_bytes(), 0o755),
        ],
        environment: &[HOME],
        expect: Expect::Started(NEXT_TO_LAUNCHER),
    },
    Case {
        name: "then next to the document root",
        files: &[(NEXT_TO_ROOT, PROGRAM.as_bytes(), 0o755), (IN_HOME, PROGRAM.as_bytes(), 0o755)],
        environment: &[HOME],
        expect: Expect::Started(NEXT_TO_ROOT),
    },
    Case {
        name: "nowhere",
        files: &[],
        environment: &[HOME],
        expect: Expect::Refused(
            127,
            &[
                "the program is missing",
                "/toolshed-home/toolshed",
                "/toolshed/toolshed",
                "chmod 755",
            ],
        ),
    },
    Case {
        name: "not in TOOLSHED_HOME, only elsewhere",
        files: &[(NEXT_TO_LAUNCHER, PROGRAM.as_bytes(), 0o755)],
        environment: &[("TOOLSHED_HOME", "~/elsewhere")],
        expect: Expect::Refused(127, &["no file at", "/elsewhere/toolshed"]),
    },
    Case {
        name: "a folder at the program's path",
        files: &[("toolshed-home/toolshed/x", b"", 0o644)],
        environment: &[],
        expect: Expect::Refused(127, &["the program is missing"]),
    },
    Case {
        name: "not executable",
        files: &[(NEXT_TO_LAUNCHER, PROGRAM.as_bytes(), 0o644)],
        environment: &[],
        expect: Expect::Refused(126, &["cannot be executed", "chmod 755", NEXT_TO_LAUNCHER]),
    },
    Case {
        name: "empty",
        files: &[(NEXT_TO_LAUNCHER, b"", 0o755)],
        environment: &[],
        expect: Expect::Refused(126, &["is empty", "upload it again"]),
    },
    Case {
        name: "a web page at the program's path",
        files: &[(NEXT_TO_LAUNCHER, b"<!doctype html>\n<h1>404</h1>\n", 0o755)],
        environment: &[],
        expect: Expect::Refused(126, &["is not a program", "binary mode"]),
    },
    Case {
        name: "for another machine",
        files: &[(NEXT_TO_LAUNCHER, FOREIGN, 0o755)],
        environment: &[],
        expect: Expect::Refused(126, &["cannot run on this machine", "another kind"]),
    },
    Case {
        name: "its interpreter is missing",
        files: &[(NEXT_TO_LAUNCHER, b"#!/no/such/interpreter\n", 0o755)],
        environment: &[],
        expect: Expect::Refused(126, &["cannot run on this machine"]),
    },
];

#[test]
fn the_launcher_starts_the_program_or_says_what_is_missing() {
    for shell in ["dash", "bash"] {
        for case in CASES {
            let account = account(case);
            let output = run(shell, case, account.path());
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let context = format!("{} in {shell}: {output:?}", case.name);
            match case.expect {
                Expect::Started(path) => {
                    let launcher = account.path().join("public_html/dispatch.fcgi");
                    let program = account.path().join(path);
                    let wanted = format!(
                        "started {} with 0 arguments from {}\n",
                        program.display(),
                        launcher.display()
                    );
                    assert_eq!(stdout, wanted, "{context}");
                    assert_eq!(stderr, "", "{context}");
                }
                Expect::Refused(code, words) => {
                    assert_eq!(output.status.code(), Some(code), "{context}");
                    let ours: Vec<_> =
                        stderr.lines().filter(|line| line.starts_with("dispatch.fcgi: ")).collect();
                    assert_eq!(ours.len(), 1, "one sentence, {context}");
                    for word in words {
                        assert!(ours[0].contains(word), "{word:?} is missing, {context}");
                    }
                }
            }
        }
    }
}

/// Creates an account's folder, with the launcher in `public_html` and the files of the case.
fn account(case: &Case) -> tempfile::TempDir {
    let account = tempfile::tempdir().expect("a folder");
    let root = account.path().join("public_html");
    fs::create_dir(&root).expect("a document root");
    let launcher = fs::read(project().join("dispatch.fcgi")).expect("the launcher");
    write_executable(&root.join("dispatch.fcgi"), &launcher).expect("its copy");
    for (name, text, mode) in case.files {
        let path = account.path().join(name);
        fs::create_dir_all(path.parent().expect("it is below the account")).expect("a folder");
        write_executable(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("its mode");
    }
    account
}

/// Runs the launcher like a web server: by its absolute path, with hardly any environment.
fn run(shell: &str, case: &Case, account: &Path) -> Output {
    let mut command = Command::new(shell);
    command.arg(account.join("public_html/dispatch.fcgi"));
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    for (name, value) in case.environment {
        command.env(name, value.replace('~', account.to_str().expect("it is ASCII")));
    }
    command.output().expect("the shell runs")
}

/// A program whose time stamp differs from that of the last good version has not passed its check. The launcher
/// starts the good version, which checks the new one.
#[test]
fn the_last_good_version_is_started_until_the_program_passes_its_check() {
    const GOOD: &str = "toolshed-home/toolshed.good";
    const FILES: &[(&str, &[u8], u32)] =
        &[(NEXT_TO_ROOT, PROGRAM.as_bytes(), 0o755), (GOOD, PROGRAM.as_bytes(), 0o755)];
    let with = |environment| Case {
        name: "the last good version",
        files: FILES,
        environment,
        expect: Expect::Started(NEXT_TO_ROOT),
    };
    let case = with(&[]);
    let as_cgi = with(&[("GATEWAY_INTERFACE", "CGI/1.1")]);
    for shell in ["dash", "bash"] {
        let account = account(&case);
        let (program, good) = (account.path().join(NEXT_TO_ROOT), account.path().join(GOOD));
        let started = |case: &Case, path: &Path| {
            let output = run(shell, case, account.path());
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(stdout.starts_with(&format!("started {} ", path.display())), "{output:?}");
            assert!(output.stderr.is_empty(), "{output:?}");
        };
        let set_time = |path: &Path, seconds: u64| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let file = fs::File::open(path).expect("it is there");
            file.set_modified(time).expect("its time is set");
        };
        set_time(&good, 1_000_000);
        set_time(&program, 1_000_000);
        started(&case, &program);
        for time in [999_999, 1_000_001] {
            set_time(&program, time);
            started(&case, &good);
            started(&as_cgi, &program);
        }
        // Where everybody can create files, another account may have put the copy there.
        let home = program.parent().expect("it is in a folder");
        fs::set_permissions(home, fs::Permissions::from_mode(0o1777)).expect("its mode");
        started(&case, &good);
        if fs::metadata("/proc/self").expect("it is mounted").uid() == 0 {
            chown(&good, Some(4242), None).expect("root may");
            started(&case, &program);
            chown(&good, Some(0), None).expect("root may");
        }
        fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("its mode");
        set_time(&program, 1_000_000);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).expect("its mode");
        started(&case, &good);
        fs::remove_file(&program).expect("it is there");
        started(&case, &good);
    }
}

#[test]
fn without_home_the_launcher_looks_up_the_account() {
    let case = Case { name: "", files: &[], environment: &[], expect: Expect::Refused(127, &[]) };
    let account = account(&case);
    let output = run("dash", &case, account.path());
    // SAFETY: getuid takes nothing and cannot fail.
    let uid = unsafe { libc::getuid() }.to_string();
    let users = fs::read_to_string("/etc/passwd").expect("there are users");
    let home = users.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields.get(2) == Some(&uid.as_str())).then(|| fields[5].to_owned())
    });
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    // A user without an entry has no home folder: the launcher looks in two folders instead of three.
    let wanted = home.map_or_else(
        || "/toolshed-home/toolshed; upload".to_owned(),
        |home| format!("{}/toolshed/toolshed", home.trim_end_matches('/')),
    );
    assert!(stderr.contains(&wanted), "{wanted:?} is missing in {stderr:?}");
}

#[test]
fn the_launcher_works_with_a_relative_path() {
    // As suexec does.
    let account = account(&CASES[0]);
    let output = Command::new("sh")
        .arg("dispatch.fcgi")
        .current_dir(account.path().join("public_html"))
        .output()
        .expect("the shell runs");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let launcher = account.path().join("public_html/dispatch.fcgi");
    assert!(stdout.ends_with(&format!("from {}\n", launcher.display())), "{output:?}");
}

#[test]
fn the_launcher_never_forks() {
    let account = account(&CASES[2]);
    let log = account.path().join("strace.log");
    let status = Command::new("strace")
        .args(["-f", "-e", "trace=fork,vfork,clone,clone3,execve", "-o"])
        .arg(&log)
        .args(["sh"])
        .arg(account.path().join("public_html/dispatch.fcgi"))
        .env("HOME", account.path())
        .stdout(std::process::Stdio::null())
        .status()
        .expect("strace is installed by tests/run");
    assert!(status.success());
    let calls = fs::read_to_string(log).expect("strace wrote its log");
    assert!(!calls.contains("fork(") && !calls.contains("clone"), "{calls}");
    // The first is strace's own; then the launcher executes the program.
    assert!(calls.matches("execve(").count() >= 2, "{calls}");
}
