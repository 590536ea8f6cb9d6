//! A draining child, which completes what is in flight.

use super::common::*;

/// The original executes another program; the child continues with its tasks, sockets and timers, receives signals
/// itself, and exits. The new program reaps it.
pub(crate) fn a_draining_child_completes_what_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut clients: Vec<_> = (0..4).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.env(CASE, "draining_helper").env(FROM, "copy").stdin(OwnedFd::from(listener));
    let mut helper = helper.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 5];
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"start");
    }
    // The new program serves on the same socket while the child still works.
    let mut newcomer = UnixStream::connect(&path).unwrap();
    newcomer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut response = String::new();
    newcomer.read_to_string(&mut response).unwrap();
    assert_eq!(response, format!("{} with 1 child", helper.id()));
    for client in &mut clients {
        client.write_all(b"go on").unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), LARGE, "the rest of the response");
    }
    assert!(helper.wait().unwrap().success());
}

/// If the original does not execute another program, the child exits, and the original is unaffected.
pub(crate) fn a_draining_child_exits_when_the_original_continues() {
    event_loop::run(async {
        let (mut near, mut far) = Stream::pair().unwrap();
        let echo = spawn(async move {
            let mut word = [0; 4];
            far.read_exact(&mut word).await.unwrap();
            far.write_all(&word).await.unwrap();
        });
        yield_now().await;
        for _ in 0..3 {
            match draining_child::fork().unwrap() {
                Forked::Original(original) => drop(original),
                Forked::DrainingChild => panic!("the child continues"),
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

pub(crate) fn draining_helper() {
    if reexec::take_inherited(&[]).is_some() {
        event_loop::run(async {
            let _signals = listen(&[Signal::Terminate]).unwrap();
            reexec::release_signals();
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
        // Registered with the poll set from here on.
        assert!(timeout(Duration::from_millis(10), listener.accept()).await.is_err());
        let mut responses = Vec::new();
        for mut stream in streams {
            responses.push(spawn(async move {
                stream.write_all(b"start").await.unwrap();
                let mut word = [0; 5];
                stream.read_exact(&mut word).await.unwrap();
                assert_eq!(&word, b"go on");
                sleep(Duration::from_millis(20)).await;
                // More than the socket takes at once.
                stream.write_all(&vec![7; LARGE]).await.unwrap();
            }));
        }
        // Each response starts and waits for the client; a timer is set before the fork and fires after it.
        yield_now().await;
        let mut timer = sleep(Duration::from_millis(200));
        assert!(timeout(Duration::from_millis(1), &mut timer).await.is_err());
        let image = reexec::Image::of_this_process().unwrap();
        match draining_child::fork().unwrap() {
            Forked::Original(original) => {
                descriptors::put_on_stdin(listener.as_fd()).unwrap();
                let error = image.exec(&mut reexec::HandoverWords::new(&[]));
                drop(original);
                panic!("{error}");
            }
            Forked::DrainingChild => {
                drop(listener);
                timer.await;
                for response in responses {
                    timeout(PATIENCE, response).await.unwrap();
                }
                // It has its own self-pipe.
                let own = std::process::id();
                assert!(Command::new("kill").arg(own.to_string()).status().unwrap().success());
                assert_eq!(timeout(PATIENCE, signals.recv()).await.unwrap(), Signal::Terminate);
                let mut child = process::Command::new("true");
                assert!(child.status().await.unwrap().success(), "it has its own children");
                draining_child::leave(0);
            }
        }
    })
    .unwrap();
}
