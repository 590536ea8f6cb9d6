//! Forked children: values, limits, crashes, leftovers.

use super::common::*;

pub(crate) fn values_are_computed() {
    event_loop::run(async {
        let here = std::process::id();
        let there = compute(SMALL, || std::process::id().to_le_bytes().to_vec()).await.unwrap();
        assert_ne!(there, here.to_le_bytes());
        assert_eq!(compute(SMALL, Vec::new).await.unwrap(), b"");
        // More than a pipe holds.
        let large = compute(SMALL, || (0..2_000_000u32).flat_map(u32::to_le_bytes).collect()).await;
        assert_eq!(
            large.unwrap(),
            (0..2_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()
        );
        // Several at once, while the loop continues.
        let (sender, mut receiver) = Stream::pair().unwrap();
        let number = sender.as_fd().as_raw_fd();
        let started: Vec<_> = (0..10u8)
            .map(|which| {
                compute(SMALL, move || {
                    // Not in `given`, so it is closed.
                    let path = format!("/proc/self/fd/{number}");
                    let same = std::fs::read_link(path).is_ok_and(|to| !is_named(&Ok(to)));
                    vec![which, u8::from(same)]
                })
            })
            .collect();
        drop(sender);
        assert_eq!(receiver.read(&mut [0]).await.unwrap(), 0, "a child held the pipe");
        for (which, computation) in started.into_iter().enumerate() {
            assert_eq!(computation.await.unwrap(), [which as u8, 0]);
        }
        one_thread();
    })
    .unwrap();
}

pub(crate) fn computing_has_limits() {
    let folder = tempfile::tempdir().unwrap();
    event_loop::run(async {
        let start = Instant::now();
        let looping = compute(SMALL, || {
            loop {
                std::hint::spin_loop();
            }
        });
        // The loop is not blocked.
        yield_now().await;
        assert!(start.elapsed() < Duration::from_secs(1));
        let failure = looping.await.unwrap_err();
        assert!(matches!(failure, Failure::CpuTime(limit) if limit == SMALL.cpu), "{failure}");

        let hoard = || {
            let mut pieces = Vec::new();
            for _ in 0..1000 {
                pieces.push(vec![1u8; 1 << 20]);
            }
            vec![pieces.len() as u8]
        };
        let failure = compute(SMALL, hoard).await.unwrap_err();
        assert!(matches!(failure, Failure::Memory(limit) if limit == SMALL.memory), "{failure}");
        let failure = compute(SMALL, || vec![1; 1 << 40]).await.unwrap_err();
        assert!(matches!(failure, Failure::Memory(_)), "{failure}");
        // The memory that this process already has does not count.
        let mine = vec![7u8; 100 << 20];
        assert_eq!(compute(SMALL, || vec![mine[99 << 20]]).await.unwrap(), [7]);

        let path = folder.path().join("large");
        let write = || {
            std::fs::write(&path, vec![0; 200_000]).unwrap();
            Vec::new()
        };
        let failure = compute(SMALL, write).await.unwrap_err();
        assert!(matches!(failure, Failure::FileSize(100_000)), "{failure}");

        let short = Limits { wall: Duration::from_millis(50), ..SMALL };
        let sleeping = || {
            std::thread::sleep(Duration::from_secs(1000));
            Vec::new()
        };
        let failure = compute(short, sleeping).await.unwrap_err();
        assert!(matches!(failure, Failure::WallTime(limit) if limit == short.wall), "{failure}");
        until_no_children().await;
    })
    .unwrap();
}

pub(crate) fn a_crash_only_affects_the_child() {
    event_loop::run(async {
        let failure = compute(SMALL, || panic!("of {}", "purpose")).await.unwrap_err();
        assert!(matches!(&failure, Failure::Panicked(message) if message == "of purpose"));
        let failure = compute(SMALL, || std::process::abort()).await.unwrap_err();
        assert!(matches!(failure, Failure::Crashed(6)), "{failure}");
        assert!(failure.to_string().contains("SIGABRT"));
        let failure = compute(SMALL, || std::process::exit(7)).await.unwrap_err();
        assert!(matches!(failure, Failure::Exited(7)), "{failure}");
        #[allow(unconditional_recursion, reason = "that is what it is for")]
        fn deep(depth: u64) -> u64 {
            std::hint::black_box([depth; 100])[50] + deep(depth + 1)
        }
        let failure = compute(SMALL, || vec![deep(0) as u8]).await.unwrap_err();
        assert!(matches!(failure, Failure::Crashed(11)), "{failure}");
        let number = std::process::id();
        let killed = move || {
            // Killed by another process on its own behalf.
            let me = std::process::id();
            assert_ne!(me, number);
            Command::new("kill").arg("-9").arg(me.to_string()).status().unwrap();
            Vec::new()
        };
        let failure = compute(SMALL, killed).await.unwrap_err();
        assert!(matches!(failure, Failure::Crashed(9)), "{failure}");
        assert_eq!(compute(SMALL, || vec![1]).await.unwrap(), [1], "the parent is unaffected");
    })
    .unwrap();
}

/// What differs in a child: signals, group, descriptors, and no loop.
pub(crate) fn a_forked_child_is_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("named")).unwrap();
    let named = file.as_raw_fd();
    event_loop::run(async {
        let _signals = listen(&[Signal::Terminate, Signal::User1]).unwrap();
        let unix = Address::Unix(folder.path().join("socket"));
        let mut listener = Listener::bind(&unix).unwrap();
        let _client = Stream::connect(&unix).await.unwrap();
        let _accepted = listener.accept().await.unwrap();
        let _task = spawn(std::future::pending::<()>());
        let (mut reader, writer) = Stream::pair().unwrap();
        let given = writer.as_fd().as_raw_fd();
        let parents = std::process::id();
        let main = || {
            let open = |number: i32| std::fs::read_link(format!("/proc/self/fd/{number}"));
            let mut found: Vec<i32> = std::fs::read_dir("/proc/self/fd")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
                .filter(|number| open(*number).is_ok_and(|to| !to.starts_with("/proc")))
                .filter(|number| !open(*number).unwrap().ends_with("output"))
                .collect();
            found.sort_unstable();
            found.retain(|number| *number > 2);
            // The test's own output may be a file with a path on a third descriptor.
            found
                .retain(|number| *number == given || *number == named || !is_named(&open(*number)));
            let mut expected = vec![named, given];
            expected.sort_unstable();
            assert_eq!(found, expected);
            assert_eq!(open(0).unwrap(), Path::new("/dev/null"));
            for signal in [Signal::Terminate, Signal::User1, Signal::Child, Signal::Alarm] {
                assert_eq!(disposition(signal).unwrap(), Disposition::Default);
            }
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            let me = std::process::id();
            assert_eq!((fields[1], fields[2]), (&*parents.to_string(), &*me.to_string()));
            // Its own loop, with signals and children.
            let response = event_loop::run(async {
                let mut signals = listen(&[Signal::User1]).unwrap();
                let script = format!("kill -USR1 {me}");
                let child = process::Command::new("sh").arg("-c").arg(script).spawn().unwrap();
                assert_eq!(signals.recv().await, Signal::User1);
                drop(child);
                sleep(Duration::from_millis(1)).await;
                let status = process::Command::new("sh").args(["-c", "exit 4"]).status().await;
                status.unwrap().code().unwrap() as u8
            });
            println!("said by the child");
            response.unwrap()
        };
        let options = ForkOptions { limits: None, given: &[given], captures_output: true };
        let mut child = fresh(options, main).unwrap();
        let mut printed = Vec::new();
        let stderr = child.stderr.take();
        process::output::pass_on(stderr, |lines| printed.extend_from_slice(lines)).await;
        let printed = String::from_utf8(printed).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(4), "{printed}");
        assert_eq!(printed, "said by the child\n");
        // Nothing has changed in the parent.
        assert_eq!(disposition(Signal::Terminate).unwrap(), Disposition::Listened);
        drop(writer);
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    })
    .unwrap();
}

fn is_named(link: &std::io::Result<std::path::PathBuf>) -> bool {
    link.as_ref().is_ok_and(|to| to.starts_with("/"))
}

pub(crate) fn a_forked_child_dies_with_its_parent() {
    let mut parent = itself("parent_helper");
    let mut parent = parent.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(parent.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert!(Path::new(&format!("/proc/{}", line.trim())).exists());
    parent.kill().unwrap();
    parent.wait().unwrap();
    // The child holds the write end, too: the output ends when it exits.
    assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
}

pub(crate) fn parent_helper() {
    event_loop::run(async {
        let main = || {
            println!("{}", std::process::id());
            std::thread::sleep(Duration::from_secs(1000));
            0
        };
        let mut child = fresh(ForkOptions::default(), main).unwrap();
        child.wait().await.unwrap();
    })
    .unwrap();
}

pub(crate) fn a_dropped_computation_leaves_nothing() {
    event_loop::run(async {
        let computation = compute(SMALL, || {
            // With its own child, which is in the group.
            Command::new("sleep").arg("1000").status().unwrap();
            Vec::new()
        });
        assert_eq!(children().len(), 1);
        assert!(timeout(Duration::from_millis(50), computation).await.is_err());
        until_no_children().await;
        // Before it was polled.
        drop(compute(SMALL, Vec::new));
        until_no_children().await;
    })
    .unwrap();
}

pub(crate) fn two_hundred_computations_leave_nothing() {
    event_loop::run(async {
        compute(SMALL, Vec::new).await.unwrap();
        let before = descriptors::open_count().unwrap();
        for round in 0..200u8 {
            let result = compute(SMALL, move || match round % 10 {
                8 => panic!("on purpose"),
                9 => std::process::abort(),
                _ => vec![round; 1000],
            });
            match round % 10 {
                7 => drop(result),
                8 | 9 => drop(result.await.unwrap_err()),
                _ => assert_eq!(result.await.unwrap(), vec![round; 1000]),
            }
        }
        until_no_children().await;
        assert_eq!(descriptors::open_count().unwrap(), before);
        assert_eq!((counters().started, counters().reaped), (201, 201));
    })
    .unwrap();
}

pub(crate) fn threads_refuse_a_fork() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || receiver.recv());
    event_loop::run(async {
        let failure = compute(SMALL, || vec![1]).await.unwrap_err();
        assert!(failure.to_string().contains("2 threads"), "{failure}");
        assert!(!failure.is_transient());
    })
    .unwrap();
    drop(sender);
    thread.join().unwrap().unwrap_err();
    let computed = event_loop::run(async { compute(SMALL, || vec![1]).await });
    assert_eq!(computed.unwrap().unwrap(), [1]);
}

/// RLIMIT_NPROC counts the processes of an account, which already has more than one. It does not apply to root, which
/// therefore uses an account that nothing else runs as.
pub(crate) fn no_more_processes() {
    let mut command = Command::new("prlimit");
    command.arg("--nproc=1:1");
    if is_root() {
        command.args(["setpriv", "--reuid=54321", "--clear-groups"]);
    }
    command.arg(std::env::current_exe().unwrap());
    command.env(CASE, "no_more_processes_helper").stdin(Stdio::null());
    let (status, output) = run_case(command);
    assert!(status.success(), "{output}");
}

pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

pub(crate) fn no_more_processes_helper() {
    event_loop::run(async {
        let failure = compute(SMALL, || vec![1]).await.unwrap_err();
        assert!(failure.is_transient(), "{failure}");
        assert!(matches!(&failure, Failure::CannotFork(error) if error.raw_os_error() == Some(11)));
        let error = process::Command::new("true").status().await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(11));
    })
    .unwrap();
}
