//! Broken versions of the real program behind Apache mod_fcgid, as owners upload them. The last good version serves,
//! even if no process is running and many clients connect at once, and the log says why. Once the version is fixed,
//! the next touch upgrades to it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{App, Running, Setup, apache_fcgid};
use end_to_end::http_client::Request;
use end_to_end::process_table;
use end_to_end::program::{find, touch, write_executable};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A broken version, and what the log says about it.
struct Broken {
    name: &'static str,
    install: fn(&Site),
    message: &'static str,
}

const BROKEN: &[Broken] = &[
    Broken {
        name: "garbage",
        install: |site| site.install(b"\x7fELF and then nothing that makes sense"),
        message: "it is not a program for this machine",
    },
    Broken {
        name: "cut off",
        install: |site| {
            let program = fs::read(find("toolshed")).expect("the program");
            site.install(&program[..program.len() / 50]);
        },
        message: "New version rejected",
    },
    Broken {
        name: "for another machine",
        install: |site| {
            let mut foreign = fs::read(find("toolshed")).expect("the program");
            // e_machine of the ELF header: s390.
            foreign[18..20].copy_from_slice(&[0x16, 0]);
            site.install(&foreign);
        },
        message: "it is not a program for this machine",
    },
    Broken {
        name: "not executable",
        install: |site| {
            site.install(&fs::read(find("toolshed")).expect("the program"));
            let program = site.program();
            fs::set_permissions(program, fs::Permissions::from_mode(0o644)).expect("its mode");
        },
        message: "permission denied; make it executable",
    },
    Broken {
        name: "another program",
        install: |site| site.install(b"#!/bin/sh\nexit 0\n"),
        message: "it is a different program",
    },
    Broken {
        name: "crashes at the start",
        install: |site| site.install(b"#!/bin/sh\nkill -SEGV $$\n"),
        message: "was killed by signal 11",
    },
    Broken {
        name: "hangs at the start",
        install: |site| site.install(b"#!/bin/sh\nexec sleep 1000\n"),
        message: "timed out after 10 s",
    },
    Broken {
        name: "its configuration is wrong",
        install: |site| fs::write(site.configuration(), "publik = 1\n").expect("it is written"),
        message: "unknown setting `publik`; did you mean `public`?",
    },
];

struct Site {
    running: Running,
}

impl Site {
    fn start() -> Self {
        let setup = Setup::new(App::Toolshed, "").with_upgrade();
        let site = Self { running: apache_fcgid::start(&setup).expect("Apache starts") };
        site.write_configuration();
        site
    }

    fn write_configuration(&self) {
        fs::write(self.configuration(), "public = [\"all\"]\n").expect("it is written");
    }

    fn program(&self) -> PathBuf {
        self.running.folder().join("bin/toolshed")
    }

    fn good(&self) -> PathBuf {
        self.running.folder().join("bin/toolshed.good")
    }

    fn configuration(&self) -> PathBuf {
        self.running.folder().join("toolshed.toml")
    }

    /// Renames a file to the program's path, like a careful upload.
    fn install(&self, content: &[u8]) {
        let temporary = self.running.folder().join("bin/upload");
        write_executable(&temporary, content).expect("it is written");
        fs::rename(temporary, self.program()).expect("it is renamed");
    }

    fn fix(&self) {
        self.write_configuration();
        self.install(&fs::read(find("toolshed")).expect("the program"));
        touch(&self.running.launcher()).expect("it is there");
    }

    fn ask(&self) -> u16 {
        Request::get("/healthz").send(self.running.address).expect("a response").status
    }

    /// Sends requests from many clients at once, so that new processes are spawned.
    fn ask_in_parallel(&self, name: &str) {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| (0..4).map(|_| self.ask()).collect::<Vec<_>>()))
                .collect();
            for client in clients {
                assert_eq!(client.join().expect("no panic"), [200; 4], "{name}: {}", self.output());
            }
        });
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < TIMEOUT, "{what}\n{}", self.output());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn output(&self) -> String {
        self.running.program_logs()
    }

    /// Ends all processes of the program, as hosts do.
    fn end_all(&self) {
        for process in self.running.our_processes() {
            // It may have exited meanwhile.
            let _ = process_table::signal(process, libc::SIGTERM);
        }
        self.until("all processes end", || self.running.our_processes().is_empty());
    }

    /// Whether a process runs the file at the program's path.
    fn is_running(&self) -> bool {
        let identity = |path: &Path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
        let program = identity(&self.program());
        let processes = self.running.our_processes();
        let of = |process: &u32| identity(Path::new(&format!("/proc/{process}/exe")));
        processes.iter().any(|process| of(process) == program)
    }
}

/// One test per version, so that they run in parallel while they wait for checks.
macro_rules! the_last_good_version_serves {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                the_last_good_version_serves($name);
            }
        )*

        #[test]
        fn every_broken_version_has_its_test() {
            let tested = [$($name),*];
            assert_eq!(tested.to_vec(), BROKEN.iter().map(|it| it.name).collect::<Vec<_>>());
        }
    };
}

the_last_good_version_serves! {
    garbage_is_rejected: "garbage",
    a_truncated_program_is_rejected: "cut off",
    a_program_for_another_machine_is_rejected: "for another machine",
    a_program_that_is_not_executable_is_rejected: "not executable",
    another_program_is_rejected: "another program",
    a_program_that_crashes_at_startup_is_rejected: "crashes at the start",
    a_program_that_hangs_at_startup_is_rejected: "hangs at the start",
    a_program_with_a_wrong_configuration_is_rejected: "its configuration is wrong",
}

fn the_last_good_version_serves(name: &str) {
    let Broken { install, message, .. } =
        BROKEN.iter().find(|it| it.name == name).expect("it is there");
    let site = Site::start();
    assert_eq!(site.ask(), 200);
    site.until("a good version is saved", || {
        site.ask();
        site.good().is_file()
    });
    let before = site.output().len();
    install(&site);
    touch(&site.running.launcher()).expect("it is there");
    assert_eq!(site.ask(), 200, "a running process");
    site.until(&format!("the log says {message:?}"), || {
        assert_eq!(site.ask(), 200);
        site.output()[before..].contains(message)
    });
    site.end_all();
    site.ask_in_parallel(name);
    // Once more: the new processes have done their checks by now.
    site.ask_in_parallel(name);
    site.fix();
    site.until("the fixed version is running", || {
        // A process notices it before it accepts its next connection.
        site.ask_in_parallel(name);
        site.is_running()
    });
    assert!(!site.output().contains("panicked"), "{}", site.output());
    assert_eq!(site.running.stop(), Ok(()));
}

#[test]
fn a_wrong_first_configuration_answers_503_until_it_is_fixed() {
    let setup = Setup::new(App::Toolshed, "").with_upgrade();
    let site = Site { running: apache_fcgid::start(&setup).expect("Apache starts") };
    fs::write(site.configuration(), "publik = 1\n").expect("it is written");
    assert_eq!(site.ask(), 503);
    site.write_configuration();
    site.until("it is fixed", || site.ask() == 200);
    assert_eq!(site.running.stop(), Ok(()));
}

/// Checks that the site is up, and that tools require a login.
fn check_is_closed(site: &Site, when: &str) {
    let asked = Request::get("/tools/checksum").send(site.running.address).expect("a response");
    assert_eq!((site.ask(), asked.status), (200, 401), "{when}: {}", site.output());
}

#[test]
fn a_withdrawn_configuration_does_not_come_back() {
    let site = Site::start();
    let is_open = || {
        Request::get("/tools/checksum").send(site.running.address).expect("a response").status
            == 200
    };
    assert!(is_open(), "{}", site.output());
    site.until("it is saved as good", || site.ask() == 200 && site.good().is_file());
    fs::remove_file(site.configuration()).expect("it is there");
    touch(&site.running.launcher()).expect("it is there");
    check_is_closed(&site, "without the file");
    // Both with a process that notices the mistake, and without one.
    fs::write(site.configuration(), "publik = 1\n").expect("it is written");
    touch(&site.running.launcher()).expect("it is there");
    check_is_closed(&site, "with a mistake in the next file");
    site.end_all();
    check_is_closed(&site, "in another process");
    site.end_all();
    fs::remove_file(site.configuration()).expect("it is there");
    check_is_closed(&site, "without the file, in another process");
    site.write_configuration();
    touch(&site.running.launcher()).expect("it is there");
    assert!(is_open(), "{}", site.output());
    site.end_all();
    fs::remove_file(site.configuration()).expect("it is there");
    check_is_closed(&site, "withdrawn while no process ran");
    site.end_all();
    fs::write(site.configuration(), "publik = 1\n").expect("it is written");
    check_is_closed(&site, "and a mistake in the next one");
    assert_eq!(site.running.stop(), Ok(()));
}

#[test]
fn a_mistake_in_the_first_configuration_does_not_take_the_site_down() {
    let setup = Setup::new(App::Toolshed, "").with_upgrade();
    let site = Site { running: apache_fcgid::start(&setup).expect("Apache starts") };
    check_is_closed(&site, "without any file");
    site.end_all();
    fs::write(site.configuration(), "publik = 1\n").expect("it is written");
    check_is_closed(&site, "with a mistake in it");
    assert!(site.output().contains("the previous configuration stays in use"), "{}", site.output());
    assert_eq!(site.running.stop(), Ok(()));
}

/// Replaces the launcher with another file, as rsync, git and SFTP do.
fn replace_launcher(site: &Site) {
    let launcher = site.running.launcher();
    let temporary = launcher.with_extension("new");
    let content = fs::read(&launcher).expect("it is there");
    write_executable(&temporary, &content).expect("it is written");
    fs::rename(temporary, launcher).expect("it is renamed");
}

#[test]
fn replacing_the_launcher_at_the_process_cap_is_noticed_soon() {
    let mut setup = Setup::new(App::Toolshed, "").with_upgrade();
    setup.server_lines = "FcgidMaxProcesses 3\nFcgidSpawnScoreUpLimit 1000\n".to_owned();
    let site = Site { running: apache_fcgid::start(&setup).expect("Apache starts") };
    site.write_configuration();
    for round in 0..3 {
        site.until("the cap is reached", || {
            site.ask_in_parallel("filling up");
            site.running.our_processes().len() == 3
        });
        let before = site.running.our_processes();
        replace_launcher(&site);
        let asked = Instant::now();
        // No request is lost, and mod_fcgid's limit of 64 s is not reached.
        site.ask_in_parallel(&format!("round {round}"));
        assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
        println!("round {round}: {:.1} s", asked.elapsed().as_secs_f64());
        let after = site.running.our_processes();
        assert!(after.iter().all(|it| !before.contains(it)), "{before:?} {after:?}");
    }
    assert_eq!(site.running.stop(), Ok(()));
}

#[test]
fn a_saved_configuration_that_cannot_be_replaced_is_not_used() {
    let site = Site::start();
    let saved = site.running.folder().join("data/upgrade");
    site.until("it is saved as good", || {
        site.ask() == 200 && saved.join("toolshed.toml").is_file()
    });
    let set_mode = |mode| fs::set_permissions(&saved, fs::Permissions::from_mode(mode));
    set_mode(0o500).expect("it is there");
    site.end_all();
    fs::remove_file(site.configuration()).expect("it is there");
    check_is_closed(&site, "without the file");
    site.end_all();
    fs::write(site.configuration(), "publik = 1\n").expect("it is written");
    check_is_closed(&site, "with a mistake in the next one");
    assert!(site.output().contains("could not be kept as the last good one"), "{}", site.output());
    set_mode(0o700).expect("it is there");
    assert_eq!(site.running.stop(), Ok(()));
}

#[test]
fn an_unreadable_configuration_does_not_take_the_site_down() {
    let site = Site::start();
    let saved = site.running.folder().join("data/upgrade/toolshed.toml");
    site.until("it is saved as good", || site.ask() == 200 && saved.is_file());
    fs::remove_file(site.configuration()).expect("it is there");
    for make in [
        // Opening a pipe blocks.
        (|path| Command::new("mkfifo").arg(path).status()) as fn(&Path) -> io::Result<_>,
        |path| Command::new("mkdir").arg(path).status(),
        |path| Command::new("truncate").args(["-s", "3G"]).arg(path).status(),
    ] {
        assert!(make(&site.configuration()).expect("it runs").success());
        site.end_all();
        assert_eq!(site.ask(), 200, "{}", site.output());
        let _ = fs::remove_file(site.configuration());
        let _ = fs::remove_dir(site.configuration());
    }
    assert!(site.output().contains("the previous configuration stays in use"), "{}", site.output());
    assert_eq!(site.running.stop(), Ok(()));
}

#[test]
fn a_saved_configuration_that_other_accounts_can_change_is_not_used() {
    let site = Site::start();
    let data = site.running.folder().join("data");
    let saved = data.join("upgrade");
    site.until("it is saved as good", || {
        site.ask() == 200 && saved.join("toolshed.toml").is_file()
    });
    site.end_all();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("it is there");
    fs::write(saved.join("toolshed.toml"), "public = [\"all\", \"inspect\"]\n")
        .expect("it is written");
    fs::write(site.configuration(), "publik = 1\n").expect("it is written");
    assert_eq!(site.ask(), 503, "{}", site.output());
    assert!(site.output().contains("can be changed by other accounts"), "{}", site.output());
    let mode = || fs::metadata(&data).expect("it is there").mode() & 0o777;
    site.until("it is closed", || mode() == 0o755);
    assert_eq!(site.running.stop(), Ok(()));
}
