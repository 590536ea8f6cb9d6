//! Another program in the same process.

use super::common::*;

/// The same process, its listening socket on descriptor 0 with its pending connections, an idle connection, and a
/// signal that arrived in between: all of it is there after `execve`, from normal code and from the handler of a
/// fault.
pub(crate) fn a_program_replaces_itself() {
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
        assert_eq!(
            line(&mut kept),
            format!("{number} kept, why=renewed, received SIGTERM"),
            "{from}"
        );
        for stream in &mut waiting {
            assert_eq!(line(stream), format!("{number} waited"), "{from}");
        }
        assert!(helper.wait().unwrap().success(), "{from}");
    }
}

static IMAGE: std::sync::OnceLock<reexec::Image> = std::sync::OnceLock::new();
static KEPT: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

/// Re-executes this program. Async-signal-safe.
pub(crate) fn replace() -> std::io::Error {
    let mut words = reexec::HandoverWords::new(&["keep"]);
    let kept = KEPT.load(std::sync::atomic::Ordering::Relaxed);
    assert!(words.descriptor("keep", kept) && words.text("why", "renewed"));
    // Signals from here on stay pending until the next program has its handlers.
    let held = reexec::Held::begin();
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

pub(crate) fn replaced_helper() {
    let Some(inherited) = reexec::take_inherited(&["keep"]) else {
        let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let (kept, _) = UnixListener::from(listener).accept().unwrap();
        KEPT.store(kept.as_raw_fd(), std::sync::atomic::Ordering::Relaxed);
        IMAGE.get_or_init(|| reexec::Image::of_this_process().unwrap());
        // A timer that fires in the next program before it has handlers would terminate it.
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
            reexec::InheritedWord::Descriptor(name, fd) if name == "keep" => kept = Some(fd),
            reexec::InheritedWord::Text(name, value) if name == "why" => why = Some(value),
            reexec::InheritedWord::Text(name, _) if name == "pid" => {}
            other => panic!("{other:?}"),
        }
    }
    let busy = Instant::now();
    while busy.elapsed() < Duration::from_millis(300) {}
    event_loop::run(async {
        let mut signals = listen(&[Signal::Terminate]).unwrap();
        reexec::release_signals();
        let signal = timeout(PATIENCE, signals.recv()).await.unwrap();
        let mut kept = Stream::from_fd(kept.unwrap()).unwrap();
        let said = format!("{number} kept, why={}, received {signal}", why.unwrap());
        kept.write_all(said.as_bytes()).await.unwrap();
        let socket = descriptors::take_listener_from_stdin().unwrap();
        let mut listener = Listener::from_fd(socket).unwrap();
        for _ in 0..5 {
            let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            stream.write_all(format!("{number} waited").as_bytes()).await.unwrap();
        }
        // The signals of faults are not blocked.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        assert_eq!(blocked.trim(), "0000000000000000");
    })
    .unwrap();
}
