//! What concerns the whole process: signals, descriptors 0 to 2, the number of threads, system calls.
//!
//! This test has no harness, for the harness starts threads: it starts itself once a case, and in the case's
//! process there is one thread, the loop's.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure, in its helpers too")]
#![allow(clippy::async_yields_async, reason = "what outlives its loop is tested")]

use std::fs::File;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use case_runner::{CASE, Case, Ending, Helper, itself, run_case};
use event_loop::fork::{Beginning, Failure, Finisher, Limits, compute, finisher, fresh, leave};
use event_loop::net::{Address, Listener, Stream};
use event_loop::signals::{Disposition, Signal, Signals, disposition, listen};
use event_loop::time::{sleep, timeout};
use event_loop::{counters, descriptors, exec, pipe, process, spawn, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// (name, what runs in the process of its own, how that ends)
const CASES: &[Case] = &[
    ("there_is_one_thread", there_is_one_thread, Ending::Success),
    ("a_signal_wakes_the_idle_loop", a_signal_wakes_the_idle_loop, Ending::Success),
    ("terminate_twice", terminate_twice, Ending::Success),
    ("each_listener_hears", each_listener_hears, Ending::Success),
    ("without_a_listener_it_is_as_before", without_a_listener_it_is_as_before, Ending::Signal(15)),
    ("an_ended_loop_catches_nothing", an_ended_loop_catches_nothing, Ending::Signal(1)),
    ("dispositions", dispositions, Ending::Success),
    ("signals_under_fire", signals_under_fire, Ending::Success),
    ("a_broken_pipe_is_an_error", a_broken_pipe_is_an_error, Ending::Success),
    ("a_listener_on_stdin", a_listener_on_stdin, Ending::Success),
    ("output_is_redirected", output_is_redirected, Ending::Success),
    ("children_inherit_nothing", children_inherit_nothing, Ending::Success),
    (
        "no_zombies_and_no_descriptors_are_left",
        no_zombies_and_no_descriptors_are_left,
        Ending::Success,
    ),
    ("children_of_others_are_left_alone", children_of_others_are_left_alone, Ending::Success),
    ("too_many_open_files", too_many_open_files, Ending::Success),
    ("one_of_many_servers_binds", one_of_many_servers_binds, Ending::Success),
    ("system_calls_of_a_request", system_calls_of_a_request, Ending::Success),
    ("programs_have_three_descriptors", programs_have_three_descriptors, Ending::Success),
    ("programs_have_limits", programs_have_limits, Ending::Success),
    ("programs_have_a_deadline", programs_have_a_deadline, Ending::Success),
    ("what_is_left_of_a_group_is_killed", what_is_left_of_a_group_is_killed, Ending::Success),
    ("values_are_computed", values_are_computed, Ending::Success),
    ("computing_has_limits", computing_has_limits, Ending::Success),
    ("a_crash_is_the_childs_alone", a_crash_is_the_childs_alone, Ending::Success),
    ("a_forked_child_is_fresh", a_forked_child_is_fresh, Ending::Success),
    ("a_forked_child_dies_with_its_parent", a_forked_child_dies_with_its_parent, Ending::Success),
    ("a_dropped_computation_leaves_nothing", a_dropped_computation_leaves_nothing, Ending::Success),
    (
        "two_hundred_computations_leave_nothing",
        two_hundred_computations_leave_nothing,
        Ending::Success,
    ),
    ("threads_refuse_a_fork", threads_refuse_a_fork, Ending::Success),
    ("no_more_processes", no_more_processes, Ending::Success),
    ("a_program_replaces_itself", a_program_replaces_itself, Ending::Success),
    ("who_waits_for_nothing_opens_nothing", who_waits_for_nothing_opens_nothing, Ending::Success),
    ("a_copy_finishes_what_is_in_progress", a_copy_finishes_what_is_in_progress, Ending::Success),
    (
        "a_copy_ends_when_the_original_goes_on",
        a_copy_ends_when_the_original_goes_on,
        Ending::Success,
    ),
];

/// Started by cases, not by the runner.
const HELPERS: &[Helper] = &[
    ("listener_on_stdin_helper", listener_on_stdin_helper),
    ("few_descriptors_helper", few_descriptors_helper),
    ("bind_helper", bind_helper),
    ("serve_helper", serve_helper),
    ("parent_helper", parent_helper),
    ("descriptors_helper", descriptors_helper),
    ("no_more_processes_helper", no_more_processes_helper),
    ("replaced_helper", replaced_helper),
    ("copied_helper", copied_helper),
];

fn main() -> ExitCode {
    case_runner::main(CASES, HELPERS)
}

fn one_thread() {
    assert_eq!(descriptors::task_count().unwrap(), 1);
}

/// Sends signals to this process from a child of ours, after `delay` seconds.
fn signal_later(delay: &str, names: &str) -> process::Child {
    let mut script = format!("sleep {delay}");
    for name in names.split(' ') {
        script += &format!("; kill -{name} {}", std::process::id());
    }
    process::Command::new("sh").arg("-c").arg(script).spawn().unwrap()
}

/// Sends a signal to this process, now.
fn raise(name: &str) {
    let number = std::process::id().to_string();
    assert!(Command::new("kill").arg(format!("-{name}")).arg(number).status().unwrap().success());
}

fn there_is_one_thread() {
    event_loop::run(async {
        one_thread();
        let _signals = listen(&[Signal::Terminate]).unwrap();
        let mut listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                spawn(async move {
                    let mut text = String::new();
                    stream.read_to_string(&mut text).await.unwrap();
                    sleep(Duration::from_millis(1)).await;
                    stream.write_all(text.as_bytes()).await.unwrap();
                })
                .detach();
            }
        })
        .detach();
        let clients: Vec<_> = (0..50)
            .map(|_| {
                let address = address.clone();
                spawn(async move {
                    let mut client = Stream::connect(&address).await.unwrap();
                    client.write_all(&[b'x'; 100_000]).await.unwrap();
                    client.shutdown().await.unwrap();
                    let mut text = String::new();
                    client.read_to_string(&mut text).await.unwrap();
                    assert_eq!(text.len(), 100_000);
                    one_thread();
                })
            })
            .collect();
        for client in clients {
            client.await;
        }
        let output = process::Command::new("echo").arg("hi").output(100).await.unwrap();
        assert_eq!(output.stdout, b"hi\n");
        one_thread();
    })
    .unwrap();
    one_thread();
    #[cfg(feature = "tokio")]
    {
        event_loop::run_in_tokio(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let client = spawn(async move { tokio::net::TcpStream::connect(address).await });
            listener.accept().await.unwrap();
            client.await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            sleep(Duration::from_millis(1)).await;
            one_thread();
        })
        .unwrap();
        one_thread();
    }
}

fn a_signal_wakes_the_idle_loop() {
    event_loop::run(async {
        let mut signals = listen(&[Signal::Terminate, Signal::Hangup]).unwrap();
        let mut child = signal_later("0.1", "TERM");
        let before = counters().turns;
        assert_eq!(signals.recv().await, Signal::Terminate);
        assert!(counters().turns - before < 5);
        child.wait().await.unwrap();
    })
    .unwrap();
}

fn terminate_twice() {
    event_loop::run(async {
        let mut signals = listen(&[Signal::Terminate]).unwrap();
        let mut child = signal_later("0.05", "TERM");
        assert_eq!(signals.recv().await, Signal::Terminate);
        child.wait().await.unwrap();
        // The drain goes on; the second one is heard too.
        let mut child = signal_later("0.05", "TERM");
        assert_eq!(signals.recv().await, Signal::Terminate);
        child.wait().await.unwrap();
        // Two that come while nobody listens are both kept.
        raise("TERM");
        raise("TERM");
        assert_eq!(signals.recv().await, Signal::Terminate);
        assert_eq!(signals.recv().await, Signal::Terminate);
        assert!(timeout(Duration::from_millis(20), signals.recv()).await.is_err());
        assert_eq!(counters().signals, 4);
    })
    .unwrap();
}

fn each_listener_hears() {
    event_loop::run(async {
        let mut both = listen(&[Signal::User1, Signal::Terminate]).unwrap();
        let mut one = listen(&[Signal::User1]).unwrap();
        raise("USR1");
        raise("TERM");
        assert_eq!(one.recv().await, Signal::User1);
        assert_eq!(both.recv().await, Signal::Terminate, "first things first");
        assert_eq!(both.recv().await, Signal::User1);
        drop(one);
        raise("USR1");
        assert_eq!(both.recv().await, Signal::User1);
        // In a task, and dropped there.
        let task = spawn(async move { both.recv().await });
        yield_now().await;
        raise("TERM");
        assert_eq!(task.await, Signal::Terminate);
        assert_eq!(disposition(Signal::User1).unwrap(), Disposition::Default);
    })
    .unwrap();
    // The next loop uses the same self-pipe.
    event_loop::run(async {
        let mut signals = listen(&[Signal::Hangup]).unwrap();
        raise("HUP");
        assert_eq!(signals.recv().await, Signal::Hangup);
    })
    .unwrap();
}

fn without_a_listener_it_is_as_before() {
    event_loop::run(async {
        let mut signals = listen(&[Signal::Terminate]).unwrap();
        raise("TERM");
        signals.recv().await;
        drop(signals);
        raise("TERM");
        panic!("survived");
    })
    .unwrap();
}

fn an_ended_loop_catches_nothing() {
    let signals: Signals = event_loop::run(async { listen(&[Signal::Hangup]).unwrap() }).unwrap();
    assert_eq!(disposition(Signal::Hangup).unwrap(), Disposition::Listened);
    drop(signals);
    raise("HUP");
    panic!("survived");
}

fn dispositions() {
    assert_eq!(disposition(Signal::Terminate).unwrap(), Disposition::Default);
    // A shell without job control starts what it starts in the background with this one ignored.
    let quit_before = disposition(Signal::Quit).unwrap();
    let error = listen(&[Signal::Terminate]).unwrap_err();
    assert!(error.to_string().contains("inside event_loop::run"));
    event_loop::run(async {
        let signals = listen(&[Signal::Terminate]).unwrap();
        let more = listen(&[Signal::Terminate, Signal::Quit]).unwrap();
        assert_eq!(disposition(Signal::Terminate).unwrap(), Disposition::Listened);
        assert_eq!(disposition(Signal::Quit).unwrap(), Disposition::Listened);
        assert_eq!(disposition(Signal::Child).unwrap(), Disposition::Default);
        drop(more);
        assert_eq!(disposition(Signal::Terminate).unwrap(), Disposition::Listened);
        assert_eq!(disposition(Signal::Quit).unwrap(), quit_before);
        drop(signals);
        process::Command::new("true").status().await.unwrap();
        assert_eq!(disposition(Signal::Child).unwrap(), Disposition::Listened);
    })
    .unwrap();
    assert_eq!(disposition(Signal::Child).unwrap(), Disposition::Default);
}

/// Reads and writes go on while signals rain; none is lost for good.
fn signals_under_fire() {
    event_loop::run(async {
        let mut signals = listen(&[Signal::User2, Signal::Terminate]).unwrap();
        let (mut near, mut far) = Stream::pair().unwrap();
        let echo = spawn(async move {
            let mut byte = [0];
            loop {
                far.read_exact(&mut byte).await.unwrap();
                far.write_all(&byte).await.unwrap();
            }
        });
        let number = std::process::id();
        let script =
            format!("for n in $(seq 2000); do kill -USR2 {number}; done; kill -TERM {number}");
        let child = process::Command::new("sh").arg("-c").arg(script).spawn().unwrap();
        let mut received = 0;
        let hearing = spawn(async move {
            let mut terminated = false;
            // SIGTERM comes before what else is kept, and may be first of all on a busy machine.
            while !terminated || received == 0 {
                match signals.recv().await {
                    Signal::Terminate => terminated = true,
                    _ => received += 1,
                }
            }
        });
        let mut byte = [0];
        while !hearing.is_finished() {
            near.write_all(b"x").await.unwrap();
            near.read_exact(&mut byte).await.unwrap();
        }
        hearing.await;
        drop((echo, child));
    })
    .unwrap();
}

fn a_broken_pipe_is_an_error() {
    event_loop::signals::ignore_failed_writes().unwrap();
    event_loop::run(async {
        let (mut near, far) = Stream::pair().unwrap();
        drop(far);
        let error = near.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    })
    .unwrap();
}

fn a_listener_on_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    let mut helper = itself("listener_on_stdin_helper");
    helper.stdin(OwnedFd::from(listener));
    let (status, output) = run_case(helper);
    assert!(status.success(), "{output}");
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "served");
}

fn listener_on_stdin_helper() {
    let inherited = open_in_child();
    let stdin = std::io::stdin();
    assert!(descriptors::is_listening_socket(stdin.as_fd()));
    let socket = descriptors::take_listener_from_stdin().unwrap();
    assert!(socket.as_raw_fd() >= 10);
    assert!(!descriptors::is_listening_socket(stdin.as_fd()));
    assert_eq!(std::fs::read_link("/proc/self/fd/0").unwrap(), Path::new("/dev/null"));
    let again = descriptors::take_listener_from_stdin().unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(open_in_child(), inherited);
    event_loop::run(async {
        let mut listener = Listener::from_fd(socket).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"served").await.unwrap();
        // And back, to be inherited by a renewed program.
        descriptors::put_on_stdin(listener.as_fd()).unwrap();
    })
    .unwrap();
    assert!(descriptors::is_listening_socket(stdin.as_fd()));
}

/// The descriptors that a child finds open, the one it looks with included. Whoever started the tests may
/// have left more than 0, 1 and 2 open.
fn open_in_child() -> Vec<String> {
    // exec: the shell would keep descriptors of its own.
    let script = "exec ls /proc/self/fd";
    let output = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn output_is_redirected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = File::options().create(true).append(true).open(&path).unwrap();
    descriptors::redirect_output(log.as_fd()).unwrap();
    println!("a stray line");
    eprintln!("an error");
    Command::new("echo").arg("a child's line").status().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text, "a stray line\nan error\na child's line\n");
}

fn children_inherit_nothing() {
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

/// Gives a descriptor through `Reader::from_fd`, which makes it close-on-exec.
fn pipe_reader_fd(fd: OwnedFd) -> OwnedFd {
    let reader = pipe::Reader::from_fd(fd).unwrap();
    reader.as_fd().try_clone_to_owned().unwrap()
}

fn no_zombies_and_no_descriptors_are_left() {
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

/// The children of this process, zombies included: lines of /proc.
fn children() -> Vec<String> {
    let parent = format!(" {} ", std::process::id());
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = processes.filter_map(|path| std::fs::read_to_string(path.join("stat")).ok());
    // number (name) state parent …
    lines
        .filter(|line| {
            let behind_name = line.rsplit(") ").next().unwrap_or_default();
            behind_name.get(1..).is_some_and(|rest| rest.starts_with(&parent))
        })
        .collect()
}

fn children_of_others_are_left_alone() {
    event_loop::run(async {
        let mut foreign = Command::new("true").spawn().unwrap();
        for _ in 0..5 {
            assert!(process::Command::new("true").status().await.unwrap().success());
        }
        sleep(Duration::from_millis(50)).await;
        // Still there to be waited for.
        assert!(foreign.wait().unwrap().success());
    })
    .unwrap();
}

fn too_many_open_files() {
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -n 40; exec \"$0\"").arg(std::env::current_exe().unwrap());
    command.env(CASE, "few_descriptors_helper").stdin(Stdio::null());
    let (status, output) = run_case(command);
    assert!(status.success(), "{output}");
}

fn few_descriptors_helper() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    event_loop::run(async {
        let mut listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
        let mut clients = Vec::new();
        while let Ok(client) = UnixStream::connect(&path) {
            clients.push(client);
        }
        assert!(clients.len() > 10);
        let error = listener.accept().await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");
        listener.pause();
        let before = counters();
        sleep(Duration::from_millis(50)).await;
        assert!(counters().turns - before.turns < 4, "the loop ran in circles");
        clients.pop();
        // The same connection, which was not lost.
        listener.accept().await.unwrap();
        assert!(listen(&[Signal::Terminate]).is_ok() || clients.pop().is_some());
    })
    .unwrap();
}

fn who_waits_for_nothing_opens_nothing() {
    let before = descriptors::open_count().unwrap();
    event_loop::run(async {
        let task = spawn(async {
            yield_now().await;
            File::open("/dev/null").unwrap()
        });
        drop(task.await);
        assert_eq!(descriptors::open_count().unwrap(), before);
        assert_eq!(counters().waits, 0);
        // The poll set and the bell.
        sleep(Duration::from_millis(1)).await;
        assert_eq!(descriptors::open_count().unwrap(), before + 2);
    })
    .unwrap();
    assert_eq!(descriptors::open_count().unwrap(), before);
}

/// Of servers that start at once on one path, over a stale file, exactly one serves.
fn one_of_many_servers_binds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    for _ in 0..10 {
        drop(UnixListener::bind(&path).unwrap());
        let mut servers: Vec<_> = (0..6)
            .map(|_| {
                let mut server = itself("bind_helper");
                server.env("SOCKET", &path).stdin(Stdio::piped()).stdout(Stdio::piped());
                server.spawn().unwrap()
            })
            .collect();
        let mut bound = 0;
        for server in &mut servers {
            let mut answer = [0; 8];
            server.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
            bound += usize::from(&answer == b"bound...");
        }
        assert_eq!(bound, 1);
        UnixStream::connect(&path).unwrap();
        for mut server in servers {
            drop(server.stdin.take());
            assert!(server.wait().unwrap().success());
        }
        assert!(!path.exists());
    }
}

fn bind_helper() {
    let address = Address::Unix(std::env::var_os("SOCKET").unwrap().into());
    let listener = Listener::bind(&address);
    match &listener {
        Ok(_) => print!("bound..."),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => print!("in use.."),
        Err(error) => print!("{error}"),
    }
    std::io::stdout().flush().unwrap();
    // Until everybody has answered.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(listener);
}

const REQUESTS: usize = 100;

/// A connection whose request is wholly there costs accept4, read, write, close, and its share of looks.
fn system_calls_of_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let (path, trace) = (folder.path().join("socket"), folder.path().join("trace"));
    let listener = UnixListener::bind(&path).unwrap();
    let clients: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(b"request").unwrap();
            client
        })
        .collect();
    let mut server = Command::new("strace");
    server.arg("-f").arg("-o").arg(&trace).arg(std::env::current_exe().unwrap());
    server.env(CASE, "serve_helper").stdin(OwnedFd::from(listener));
    let (status, output) = run_case(server);
    assert!(status.success(), "{output}");
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    }
    let trace = std::fs::read_to_string(trace).unwrap();
    // From when the loop stands to the end of the last connection. A line is: number, name(arguments).
    let calls: Vec<&str> = trace
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.split_once('(').map(|parts| parts.0))
        .skip_while(|name| *name != "eventfd2")
        // And puts it into the poll set.
        .skip(2)
        .collect();
    let last_write = calls.iter().rposition(|name| *name == "write").unwrap();
    let last_close = calls[last_write..].iter().position(|name| *name == "close").unwrap();
    let calls = &calls[..=last_write + last_close];
    let count = |name: &str| calls.iter().filter(|call| call.starts_with(name)).count();
    assert_eq!(count("accept4"), REQUESTS, "{calls:?}");
    assert_eq!(count("read"), REQUESTS, "{calls:?}");
    assert_eq!(count("write"), REQUESTS, "{calls:?}");
    assert_eq!(count("close"), REQUESTS, "{calls:?}");
    assert_eq!(count("epoll_ctl"), 1, "the listener enters the poll set: {calls:?}");
    let looks = count("epoll_wait") + count("epoll_pwait");
    assert!(looks <= 10, "{looks} looks");
    // std looks whether a descriptor is open before it closes it, in debug builds.
    let checks = if cfg!(debug_assertions) { REQUESTS } else { 0 };
    assert_eq!(calls.len(), 4 * REQUESTS + 1 + looks + checks, "{calls:?}");
}

fn serve_helper() {
    let socket = descriptors::take_listener_from_stdin().unwrap();
    let mut listener = Listener::from_fd(socket).unwrap();
    event_loop::run(async {
        let mut buffer = BytesMut::with_capacity(4096);
        for _ in 0..REQUESTS {
            let (mut stream, _) = listener.accept().await.unwrap();
            buffer.clear();
            poll_fn(|cx| stream.poll_read_into(cx, &mut buffer)).await.unwrap();
            assert_eq!(&buffer[..], b"request");
            stream.write_all(b"answer").await.unwrap();
        }
    })
    .unwrap();
}

/// Even what somebody else has opened without close-on-exec is not inherited.
fn programs_have_three_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    event_loop::run(async {
        let unix = Address::Unix(folder.path().join("socket"));
        let listener = Listener::bind(&unix).unwrap();
        let _client = Stream::connect(&unix).await.unwrap();
        // The standard descriptors of a Command are inherited: this one opens 7 and 8 for its child.
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
        // The last is the folder that `ls` itself looks at.
        assert_eq!(after.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    })
    .unwrap();
}

/// Has a listener and /dev/null on 7 and 8, not close-on-exec.
fn descriptors_helper() {
    event_loop::run(async {
        // std's own way hands them on.
        assert!(Command::new("ls").arg("/proc/self/fd").status().unwrap().success());
        println!("then");
        let mut ls = process::Command::new("ls");
        assert!(ls.arg("/proc/self/fd").status().await.unwrap().success());
    })
    .unwrap();
}

const SMALL: Limits = Limits {
    cpu: Duration::from_secs(1),
    wall: Duration::from_secs(20),
    memory: 64 << 20,
    file_size: 100_000,
};

fn programs_have_limits() {
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
        // A child of the child, too; and who ignores the first signal gets the second.
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

fn programs_have_a_deadline() {
    event_loop::run(async {
        let mut shell = process::Command::new("sh");
        // The shell waits for a child of its own, which holds the pipe.
        shell.arg("-c").arg("sleep 1000; echo late").stdout(Stdio::piped());
        let mut child = shell.deadline(Duration::from_millis(100)).spawn().unwrap();
        let mut text = String::new();
        // Nobody waits for the child itself.
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

fn what_is_left_of_a_group_is_killed() {
    event_loop::run(async {
        let mut shell = process::Command::new("sh");
        shell.arg("-c").arg("sleep 1000 & exit 3").stdout(Stdio::piped()).lead_group();
        let child = shell.spawn().unwrap();
        // The end of the output is the end of the one that was left.
        let output = timeout(Duration::from_secs(20), child.wait_with_output(100)).await.unwrap();
        assert_eq!(output.unwrap().status.code(), Some(3));
    })
    .unwrap();
}

fn values_are_computed() {
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
        // Several at once; the loop goes on meanwhile.
        let (sender, mut receiver) = Stream::pair().unwrap();
        let number = sender.as_fd().as_raw_fd();
        let begun: Vec<_> = (0..10u8)
            .map(|which| {
                compute(SMALL, move || {
                    // Not given: closed.
                    let path = format!("/proc/self/fd/{number}");
                    let same = std::fs::read_link(path).is_ok_and(|to| !is_named(&Ok(to)));
                    vec![which, u8::from(same)]
                })
            })
            .collect();
        drop(sender);
        assert_eq!(receiver.read(&mut [0]).await.unwrap(), 0, "a child held the pipe");
        for (which, computation) in begun.into_iter().enumerate() {
            assert_eq!(computation.await.unwrap(), [which as u8, 0]);
        }
        one_thread();
    })
    .unwrap();
}

fn computing_has_limits() {
    let folder = tempfile::tempdir().unwrap();
    event_loop::run(async {
        let start = Instant::now();
        let looping = compute(SMALL, || {
            loop {
                std::hint::spin_loop();
            }
        });
        // Whoever waits is not held up.
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
        // What this process has already does not count.
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

fn a_crash_is_the_childs_alone() {
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
            // By its own hand, from the outside.
            let me = std::process::id();
            assert_ne!(me, number);
            Command::new("kill").arg("-9").arg(me.to_string()).status().unwrap();
            Vec::new()
        };
        let failure = compute(SMALL, killed).await.unwrap_err();
        assert!(matches!(failure, Failure::Crashed(9)), "{failure}");
        assert_eq!(compute(SMALL, || vec![1]).await.unwrap(), [1], "life goes on");
    })
    .unwrap();
}

/// What is different in a child: signals, group, descriptors, and no loop.
fn a_forked_child_is_fresh() {
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
            // The test's own output may have a name and a third number.
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
            // A loop of its own, with signals and children.
            let answer = event_loop::run(async {
                let mut signals = listen(&[Signal::User1]).unwrap();
                let child = signal_later("0", "USR1");
                assert_eq!(signals.recv().await, Signal::User1);
                drop(child);
                sleep(Duration::from_millis(1)).await;
                let status = process::Command::new("sh").args(["-c", "exit 4"]).status().await;
                status.unwrap().code().unwrap() as u8
            });
            println!("said by the child");
            answer.unwrap()
        };
        let beginning = Beginning { limits: None, given: &[given], prints_to_us: true };
        let mut child = fresh(beginning, main).unwrap();
        let mut printed = Vec::new();
        let stderr = child.stderr.take();
        event_loop::fork::pass_on(stderr, |lines| printed.extend_from_slice(lines)).await;
        let printed = String::from_utf8(printed).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(4), "{printed}");
        assert_eq!(printed, "said by the child\n");
        // And nothing has changed here.
        assert_eq!(disposition(Signal::Terminate).unwrap(), Disposition::Listened);
        drop(writer);
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    })
    .unwrap();
}

fn is_named(link: &std::io::Result<std::path::PathBuf>) -> bool {
    link.as_ref().is_ok_and(|to| to.starts_with("/"))
}

fn a_forked_child_dies_with_its_parent() {
    let mut parent = itself("parent_helper");
    let mut parent = parent.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(parent.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert!(Path::new(&format!("/proc/{}", line.trim())).exists());
    parent.kill().unwrap();
    parent.wait().unwrap();
    // The child holds the other end, too: its end is that of the output.
    assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
}

fn parent_helper() {
    event_loop::run(async {
        let main = || {
            println!("{}", std::process::id());
            std::thread::sleep(Duration::from_secs(1000));
            0
        };
        let mut child = fresh(Beginning::default(), main).unwrap();
        child.wait().await.unwrap();
    })
    .unwrap();
}

async fn until_no_children() {
    let start = Instant::now();
    while !children().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", children());
        yield_now().await;
    }
}

fn a_dropped_computation_leaves_nothing() {
    event_loop::run(async {
        let computation = compute(SMALL, || {
            // With a child of its own, which is of the group.
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

fn two_hundred_computations_leave_nothing() {
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
        assert_eq!(counters().children_started, 201);
        assert_eq!(counters().children_reaped, 201);
    })
    .unwrap();
}

fn threads_refuse_a_fork() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || receiver.recv());
    event_loop::run(async {
        let failure = compute(SMALL, || vec![1]).await.unwrap_err();
        assert!(failure.to_string().contains("2 threads"), "{failure}");
        assert!(!failure.is_for_now());
    })
    .unwrap();
    drop(sender);
    thread.join().unwrap().unwrap_err();
    let computed = event_loop::run(async { compute(SMALL, || vec![1]).await });
    assert_eq!(computed.unwrap().unwrap(), [1]);
}

/// RLIMIT_NPROC counts the processes of an account, which are more than one already; but root has none: so
/// as somebody else, whom nobody else is.
fn no_more_processes() {
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

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

fn no_more_processes_helper() {
    event_loop::run(async {
        let failure = compute(SMALL, || vec![1]).await.unwrap_err();
        assert!(failure.is_for_now(), "{failure}");
        assert!(matches!(&failure, Failure::CannotFork(error) if error.raw_os_error() == Some(11)));
        let error = process::Command::new("true").status().await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(11));
    })
    .unwrap();
}

/// How `replaced_helper` comes to execute itself anew.
const FROM: &str = "FROM";

/// The same process, its listening socket on descriptor 0 with who waits there, an idle connection, and a
/// signal that came in between: all of it is there after `execve`, from normal code and from the handler of
/// a fault.
fn a_program_replaces_itself() {
    for from in ["code", "handler"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut kept = UnixStream::connect(&path).unwrap();
        let mut waiting: Vec<_> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let mut helper = Command::new(std::env::current_exe().unwrap());
        helper.env(CASE, "replaced_helper").env(FROM, from).stdin(OwnedFd::from(listener));
        let mut helper = helper.stdout(Stdio::piped()).spawn().unwrap();
        let line = |stream: &mut UnixStream| {
            let mut said = String::new();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_to_string(&mut said).unwrap();
            said
        };
        let number = helper.id();
        assert_eq!(line(&mut kept), format!("{number} kept, why=renewed, heard SIGTERM"), "{from}");
        for stream in &mut waiting {
            assert_eq!(line(stream), format!("{number} waited"), "{from}");
        }
        assert!(helper.wait().unwrap().success(), "{from}");
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

static IMAGE: std::sync::OnceLock<exec::Image> = std::sync::OnceLock::new();
static KEPT: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

/// Executes this program anew. Async-signal-safe.
fn replace() -> std::io::Error {
    let mut words = exec::Words::new();
    let kept = KEPT.load(std::sync::atomic::Ordering::Relaxed);
    assert!(words.number("keep", kept as u64) && words.text("why", "renewed"));
    // What comes from here on has to wait for the next handlers.
    let held = exec::Held::begin();
    // SAFETY: raise takes an integer.
    unsafe { libc::raise(libc::SIGTERM) };
    let error = IMAGE.get().unwrap().exec(&mut words);
    drop(held);
    error
}

extern "C" fn on_fault(_: i32) {
    let error = replace();
    panic!("{error}");
}

fn replaced_helper() {
    let Some(inherited) = exec::take_inherited() else {
        let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let (kept, _) = UnixListener::from(listener).accept().unwrap();
        KEPT.store(kept.as_raw_fd(), std::sync::atomic::Ordering::Relaxed);
        IMAGE.get_or_init(|| exec::Image::of_this_process().unwrap());
        // A timer that goes off in the next program, whose handlers do not stand, would end it.
        let soon = libc::timeval { tv_sec: 0, tv_usec: 200_000 };
        let timer = libc::itimerval { it_interval: soon, it_value: soon };
        // SAFETY: the timer outlives the call.
        unsafe { libc::setitimer(libc::ITIMER_VIRTUAL, &timer, std::ptr::null_mut()) };
        if std::env::var(FROM).unwrap() == "code" {
            panic!("{}", replace());
        }
        // SAFETY: the handler does async-signal-safe work; raise takes an integer.
        unsafe {
            libc::signal(libc::SIGSEGV, on_fault as extern "C" fn(i32) as libc::sighandler_t);
            libc::raise(libc::SIGSEGV);
        }
        unreachable!("the handler does not return");
    };
    assert!(std::env::var_os("APP_SERVER_INHERITED").is_none());
    let number = std::process::id();
    let mut why = None;
    let mut kept = None;
    for word in inherited {
        match word {
            exec::Inherited::Descriptor(name, fd) if name == "keep" => kept = Some(fd),
            exec::Inherited::Text(name, value) if name == "why" => why = Some(value),
            exec::Inherited::Text(name, _) if name == "pid" => {}
            other => panic!("{other:?}"),
        }
    }
    let busy = Instant::now();
    while busy.elapsed() < Duration::from_millis(300) {}
    event_loop::run(async {
        let mut signals = listen(&[Signal::Terminate]).unwrap();
        exec::release_signals();
        let signal = timeout(PATIENCE, signals.recv()).await.unwrap();
        let mut kept = Stream::from_fd(kept.unwrap()).unwrap();
        let said = format!("{number} kept, why={}, heard {signal}", why.unwrap());
        kept.write_all(said.as_bytes()).await.unwrap();
        let socket = descriptors::take_listener_from_stdin().unwrap();
        let mut listener = Listener::from_fd(socket).unwrap();
        for _ in 0..5 {
            let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            stream.write_all(format!("{number} waited").as_bytes()).await.unwrap();
        }
        // A fault is still one: its signal is not blocked.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        assert_eq!(blocked.trim(), "0000000000000000");
    })
    .unwrap();
}

/// The original becomes another program; the copy goes on with its tasks, sockets and timers, hears of
/// signals by itself, and ends. The new program reaps it.
fn a_copy_finishes_what_is_in_progress() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut clients: Vec<_> = (0..4).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.env(CASE, "copied_helper").env(FROM, "copy").stdin(OwnedFd::from(listener));
    let mut helper = helper.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 5];
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"begun");
    }
    // The new program answers on the same socket while the copy still works.
    let mut newcomer = UnixStream::connect(&path).unwrap();
    newcomer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    newcomer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("{} with 1 child", helper.id()));
    for client in &mut clients {
        client.write_all(b"go on").unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), LARGE, "the rest of the answer");
    }
    assert!(helper.wait().unwrap().success());
}

/// Without another program to become, there is no copy in the end, and the original is unharmed.
fn a_copy_ends_when_the_original_goes_on() {
    event_loop::run(async {
        let (mut near, mut far) = Stream::pair().unwrap();
        let echo = spawn(async move {
            let mut word = [0; 4];
            far.read_exact(&mut word).await.unwrap();
            far.write_all(&word).await.unwrap();
        });
        yield_now().await;
        for _ in 0..3 {
            match finisher().unwrap() {
                Finisher::Original(original) => drop(original),
                Finisher::Copy => panic!("the copy goes on"),
            }
        }
        near.write_all(b"word").await.unwrap();
        let mut word = [0; 4];
        near.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"word");
        echo.await;
        timeout(PATIENCE, async {
            while process::running_in_background() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        assert_eq!(process::running(), 0);
    })
    .unwrap();
}

const LARGE: usize = 4 << 20;

fn copied_helper() {
    if exec::take_inherited().is_some() {
        event_loop::run(async {
            let _signals = listen(&[Signal::Terminate]).unwrap();
            exec::release_signals();
            let children = process::adopt_inherited().unwrap();
            let socket = descriptors::take_listener_from_stdin().unwrap();
            let mut listener = Listener::from_fd(socket).unwrap();
            let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            let said = format!("{} with {children} child", std::process::id());
            stream.write_all(said.as_bytes()).await.unwrap();
            drop(stream);
            timeout(PATIENCE, async {
                while process::running_in_background() > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await
            .unwrap();
        })
        .unwrap();
        return;
    }
    event_loop::run(async {
        let socket = descriptors::take_listener_from_stdin().unwrap();
        let mut listener = Listener::from_fd(socket).unwrap();
        let mut signals = listen(&[Signal::Terminate]).unwrap();
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(listener.accept().await.unwrap().0);
        }
        // Watched from here on.
        assert!(timeout(Duration::from_millis(10), listener.accept()).await.is_err());
        let mut answers = Vec::new();
        for mut stream in streams {
            answers.push(spawn(async move {
                stream.write_all(b"begun").await.unwrap();
                let mut word = [0; 5];
                stream.read_exact(&mut word).await.unwrap();
                assert_eq!(&word, b"go on");
                sleep(Duration::from_millis(20)).await;
                // More than the socket takes at once.
                stream.write_all(&vec![7; LARGE]).await.unwrap();
            }));
        }
        // Each answer begins and waits to be told on; a timer is set before and due after.
        yield_now().await;
        let mut timer = sleep(Duration::from_millis(200));
        assert!(timeout(Duration::from_millis(1), &mut timer).await.is_err());
        let image = exec::Image::of_this_process().unwrap();
        match finisher().unwrap() {
            Finisher::Original(original) => {
                descriptors::put_on_stdin(listener.as_fd()).unwrap();
                let error = image.exec(&mut exec::Words::new());
                drop(original);
                panic!("{error}");
            }
            Finisher::Copy => {
                drop(listener);
                timer.await;
                for answer in answers {
                    timeout(PATIENCE, answer).await.unwrap();
                }
                // Its own pipe of signals.
                let own = std::process::id();
                assert!(Command::new("kill").arg(own.to_string()).status().unwrap().success());
                assert_eq!(timeout(PATIENCE, signals.recv()).await.unwrap(), Signal::Terminate);
                let mut child = process::Command::new("true");
                assert!(child.status().await.unwrap().success(), "children of its own");
                leave(0);
            }
        }
    })
    .unwrap();
}
