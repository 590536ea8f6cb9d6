//! Programs as children: what they inherit, their limits, their ends.

use super::common::*;

pub(crate) fn children_start_no_thread() {
    event_loop::run(async {
        let output = process::Command::new("echo").arg("hi").output(100).await.unwrap();
        assert_eq!(output.stdout, b"hi\n");
        one_thread();
    })
    .unwrap();
}

pub(crate) fn sigchld_is_caught_from_the_first_child_on() {
    assert_eq!(disposition(Signal::Child).unwrap(), Disposition::Default);
    event_loop::run(async {
        assert_eq!(disposition(Signal::Child).unwrap(), Disposition::Default);
        process::Command::new("true").status().await.unwrap();
        assert_eq!(disposition(Signal::Child).unwrap(), Disposition::Listened);
    })
    .unwrap();
    assert_eq!(disposition(Signal::Child).unwrap(), Disposition::Default);
}

pub(crate) fn children_inherit_nothing() {
    let before = open_in_child();
    let folder = tempfile::tempdir().unwrap();
    event_loop::run(async {
        let _signals = listen(&[Signal::Terminate]).unwrap();
        let unix = Address::Unix(folder.path().join("socket"));
        let mut unix_listener = Listener::bind(&unix).unwrap();
        let _tcp_listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = Stream::connect(&unix).await.unwrap();
        let _accepted = unix_listener.accept().await.unwrap();
        let _pair = Stream::pair().unwrap();
        let _pipe = pipe::pipe().unwrap();
        let mut other = process::Command::new("cat");
        other.stdin(Stdio::piped()).stdout(Stdio::piped());
        let _other = other.spawn().unwrap();
        let mut inherited: OwnedFd = File::open("/dev/null").unwrap().into();
        inherited = pipe_reader_fd(inherited);
        assert_eq!(open_in_child(), before);
        drop(inherited);
    })
    .unwrap();
}

/// Passes a descriptor through `Reader::from_fd`, which makes it close-on-exec.
fn pipe_reader_fd(fd: OwnedFd) -> OwnedFd {
    let reader = pipe::Reader::from_fd(fd).unwrap();
    reader.as_fd().try_clone_to_owned().unwrap()
}

pub(crate) fn no_zombies_and_no_descriptors_are_left() {
    let mut before = 0;
    for round in 0..5 {
        event_loop::run(async {
            let mut waited = Vec::new();
            for number in 0..10 {
                let mut command = process::Command::new("sh");
                command.arg("-c").arg(if number % 2 == 0 { "exit 0" } else { "sleep 1000" });
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let child = command.spawn().unwrap();
                if number % 3 == 0 {
                    waited.push(child);
                }
            }
            sleep(Duration::from_millis(30)).await;
            let _streams = (Stream::pair().unwrap(), listen(&[Signal::User1]).unwrap());
        })
        .unwrap();
        assert_eq!(children(), Vec::<String>::new());
        let open = descriptors::open_count().unwrap();
        if round == 0 {
            // The self-pipe stays.
            before = open;
        }
        assert_eq!(open, before);
    }
}

pub(crate) fn children_of_other_code_are_not_reaped() {
    event_loop::run(async {
        let mut foreign = Command::new("true").spawn().unwrap();
        for _ in 0..5 {
            assert!(process::Command::new("true").status().await.unwrap().success());
        }
        sleep(Duration::from_millis(50)).await;
        // It has not been reaped.
        assert!(foreign.wait().unwrap().success());
    })
    .unwrap();
}

/// Even descriptors that are not close-on-exec are not inherited.
pub(crate) fn programs_have_three_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    event_loop::run(async {
        let unix = Address::Unix(folder.path().join("socket"));
        let listener = Listener::bind(&unix).unwrap();
        let _client = Stream::connect(&unix).await.unwrap();
        // The shell inherits only the standard descriptors, and opens 7 and 8 for its child.
        let socket = listener.as_fd().try_clone_to_owned().unwrap();
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg("exec 7<&0 8</dev/null; exec 0</dev/null; exec \"$0\" descriptors_helper");
        shell.arg(std::env::current_exe().unwrap());
        shell.env(CASE, "descriptors_helper").stdin(socket).stdout(Stdio::piped());
        let output = shell.spawn().unwrap().wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let (before, after) = text.split_once("then\n").unwrap();
        assert!(before.lines().any(|line| line == "7"), "nothing was to be held back: {before}");
        // The last one is the folder that `ls` reads.
        assert_eq!(after.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    })
    .unwrap();
}

/// Has a listener and /dev/null on 7 and 8, not close-on-exec.
pub(crate) fn descriptors_helper() {
    event_loop::run(async {
        // std passes them on.
        assert!(Command::new("ls").arg("/proc/self/fd").status().unwrap().success());
        println!("then");
        let mut ls = process::Command::new("ls");
        assert!(ls.arg("/proc/self/fd").status().await.unwrap().success());
    })
    .unwrap();
}

pub(crate) fn programs_have_limits() {
    let folder = tempfile::tempdir().unwrap();
    event_loop::run(async {
        let failure = async |script: &str| {
            let mut shell = process::Command::new("sh");
            shell.arg("-c").arg(script).limits(SMALL).current_dir(folder.path());
            let mut child = shell.spawn().unwrap();
            let status = child.wait().await;
            assert!(!child.timed_out());
            Failure::of(status, child.usage(), &SMALL, false)
        };
        let looping = failure("while :; do :; done").await;
        assert!(matches!(looping, Failure::CpuTime(limit) if limit == SMALL.cpu), "{looping}");
        // One that ignores the first signal gets the second.
        let stubborn = failure("trap '' XCPU; while :; do :; done").await;
        assert!(matches!(stubborn, Failure::CpuTime(_)), "{stubborn}");
        let file = failure("exec head -c 200000 /dev/zero > large").await;
        assert!(matches!(file, Failure::FileSize(100_000)), "{file}");
        assert_eq!(std::fs::metadata(folder.path().join("large")).unwrap().len(), 100_000);
        let memory = failure("exec dd if=/dev/zero of=/dev/null bs=100M count=1 2> said").await;
        assert!(matches!(memory, Failure::Exited(1)), "{memory}");
        let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
        assert!(said.contains("memory exhausted"), "{said}");
        assert!(matches!(failure("exit 0").await, Failure::Exited(0)));
    })
    .unwrap();
    assert_eq!(children(), Vec::<String>::new());
}

pub(crate) fn programs_have_a_deadline() {
    event_loop::run(async {
        let mut shell = process::Command::new("sh");
        // The shell waits for its own child, which holds the pipe.
        shell.arg("-c").arg("sleep 1000; echo late").stdout(Stdio::piped());
        let mut child = shell.deadline(Duration::from_millis(100)).spawn().unwrap();
        let mut text = String::new();
        // Nothing waits for the child itself.
        child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "");
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
        assert!(child.timed_out());

        let mut child =
            process::Command::new("true").deadline(Duration::from_secs(100)).spawn().unwrap();
        assert!(child.wait().await.unwrap().success());
        assert!(!child.timed_out());
    })
    .unwrap();
    assert_eq!(children(), Vec::<String>::new());
}

pub(crate) fn the_rest_of_a_group_is_killed() {
    event_loop::run(async {
        let mut shell = process::Command::new("sh");
        shell.arg("-c").arg("sleep 1000 & exit 3").stdout(Stdio::piped()).lead_group();
        let child = shell.spawn().unwrap();
        // The output ends when the process left behind is killed.
        let output = timeout(Duration::from_secs(20), child.wait_with_output(100)).await.unwrap();
        assert_eq!(output.unwrap().status.code(), Some(3));
    })
    .unwrap();
}
