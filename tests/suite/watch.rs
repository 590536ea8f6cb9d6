//! `watch`: a changed source is built, and the new version takes over without a lost request.
//!
//! Cargo is a script here, which installs a version that was built before; what the real one does is tested in
//! `crates/hosted/src/cargo_project.rs`.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::start_on_free_port;
use end_to_end::http_client::Request;
use end_to_end::program::{Program, Start, copy_executable, find, write_executable};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A project with its program, whose sources are one file. It builds unless that contains `wrong`.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Project {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        for below in ["src", "target/debug"] {
            fs::create_dir_all(path.join(below)).expect("it is made");
        }
        let program = path.join("target/debug/own-app");
        copy_executable(&find("own-app"), &program).expect("a copy");
        let list = format!("{}: {}\n", program.display(), path.join("src/main.rs").display());
        for (name, text) in [
            ("Cargo.toml", "[package]\n"),
            ("src/main.rs", "// one\n"),
            ("target/CACHEDIR.TAG", ""),
            ("target/debug/own-app.d", &list),
        ] {
            fs::write(path.join(name), text).expect("it is written");
        }
        let cargo = "#!/bin/sh\n\
                     echo \"cargo $* ${CARGO_MANIFEST_DIR-}\"\n\
                     grep -q wrong src/main.rs && { echo 'error: wrong' >&2; exit 101; }\n\
                     cp target/debug/own-app new && echo >>new && mv new target/debug/own-app\n";
        write_executable(&path.join("cargo"), cargo.as_bytes()).expect("it is written");
        Project { folder }
    }

    fn watch(&self, arguments: &[&str]) -> (SocketAddr, Program) {
        let path = self.folder.path();
        start_on_free_port(|address| {
            let start = Start::new(path.join("target/debug/own-app"), path.join("out"))
                .folder(path.join("src"))
                .variable("CARGO", path.join("cargo"))
                .variable("CARGO_MANIFEST_DIR", path)
                .argument("watch")
                .argument("--listen")
                .argument(address.to_string());
            arguments.iter().fold(start, |start, argument| start.argument(*argument)).start()
        })
        .expect("it starts")
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("src/main.rs"), text).expect("it is written");
    }
}

fn started(address: SocketAddr) -> String {
    let home = Request::get("/").send(address).expect("a response").text();
    home.split(' ').next().expect("a word").to_owned()
}

fn until(program: &Program, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < TIMEOUT, "{}", program.output());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_changed_source_is_built_and_the_new_version_takes_over() {
    for arguments in [&[][..], &["--like", "mod_fcgid"]] {
        let project = Project::new();
        let (address, mut program) = project.watch(arguments);
        let first = started(address);
        let stop = Arc::new(AtomicBool::new(false));
        let client = thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let response = Request::get("/sleep/5").send(address).expect("a response");
                    assert_eq!(response.text(), "slept 5 ms\n");
                }
            }
        });
        project.write("// wrong\n");
        until(&program, || {
            program.output().contains("Build failed; the running version continues.")
        });
        assert!(program.output().contains("\nerror: wrong\n"), "{}", program.output());
        assert_eq!(started(address), first);
        project.write("// two\n");
        until(&program, || started(address) > first);
        let said = program.output();
        assert!(said.contains("\ncargo build --bin own-app \n"), "{said}");
        stop.store(true, Ordering::Relaxed);
        client.join().expect("no request fails");
        program.terminate().expect("it ends");
        assert!(Request::get("/").send(address).is_err(), "the server has ended, too");
    }
}

#[test]
fn without_a_project_it_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("own-app");
    copy_executable(&find("own-app"), &program).expect("a copy");
    let output = Command::new(&program).arg("watch").output().expect("it starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("own-app: watch builds a cargo project, and this is not one: "),
        "{said}"
    );
    assert!(
        said.contains("is not in a target folder of cargo's.\nHint: In the project's folder"),
        "{said}"
    );
}
