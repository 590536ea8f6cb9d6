//! Descriptors 0 to 2.

use super::common::*;

pub(crate) fn a_listener_on_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    let mut helper = itself("listener_on_stdin_helper");
    helper.stdin(OwnedFd::from(listener));
    let (status, output) = run_case(helper);
    assert!(status.success(), "{output}");
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert_eq!(response, "served");
}

pub(crate) fn listener_on_stdin_helper() {
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
        // And back, to be inherited by the next program.
        descriptors::put_on_stdin(listener.as_fd()).unwrap();
    })
    .unwrap();
    assert!(descriptors::is_listening_socket(stdin.as_fd()));
}

pub(crate) fn output_is_redirected() {
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
