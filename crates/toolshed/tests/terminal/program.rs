//! The program as tests start it: in its own folder, with its own environment.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fastcgi_server::client::{Connection, Event};
use fastcgi_server::{RequestId, Role};

/// An installation: a folder with the program in it, and whatever a test adds.
pub(crate) struct Installation {
    folder: tempfile::TempDir,
}

impl Installation {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The program would follow a symbolic link to its real folder, but not a hard link.
        let program = folder.path().join("toolshed");
        if std::fs::hard_link(env!("CARGO_BIN_EXE_toolshed"), &program).is_err() {
            std::fs::copy(env!("CARGO_BIN_EXE_toolshed"), &program).unwrap();
        }
        Installation { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.path().join("toolshed")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// Runs the program until it exits on its own, in the installation's folder: returns the exit code and the
    /// output, with each line of standard error marked and the folder's name removed.
    pub(crate) fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
        let output = self.command(arguments, environment).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let marked: String = stderr.lines().map(|line| format!("! {line}\n")).collect();
        (output.status.code().unwrap(), self.without_folder(&(stdout + &marked)))
    }

    pub(crate) fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(self.program());
        command.args(arguments).env_clear().envs(environment.iter().copied());
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Starts the program, and goes on.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments, &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn without_folder(&self, text: &str) -> String {
        text.replace(&*self.path().to_string_lossy(), "HOME")
    }

    /// Starts the program as mod_fcgid does: with a listening socket as descriptor 0.
    pub(crate) fn spawn_by_web_server(&self, environment: &[(&str, &str)]) -> Running {
        let socket = self.path().join("web-server.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = self.command(&[], environment);
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: command.spawn().unwrap(), socket, address: None }
    }

    /// Starts `toolshed fastcgi` on its own socket.
    pub(crate) fn start_external(&self, environment: &[(&str, &str)]) -> Running {
        let socket = self.path().join("own.sock");
        let mut command = self.command(&["fastcgi", "--listen", "unix:own.sock"], environment);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: command.spawn().unwrap(), socket, address: None }
    }
}

/// A program that serves FastCGI; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    socket: PathBuf,
    /// Where it listens, unless that is a unix socket.
    address: Option<SocketAddr>,
}

impl Running {
    /// A program that was given a listening TCP socket.
    pub(crate) fn over_tcp(child: Child, address: SocketAddr) -> Self {
        Running { child, socket: PathBuf::new(), address: Some(address) }
    }

    /// Sends a request and returns the whole response, head and body.
    pub(crate) fn ask(&self, variables: &[(&str, &str)]) -> String {
        self.ask_with_body(variables, "")
    }

    /// The same, with a body.
    pub(crate) fn ask_with_body(&self, variables: &[(&str, &str)], body: &str) -> String {
        let patience = Duration::from_secs(15);
        if let Some(address) = self.address {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(patience)).unwrap();
            return converse(stream, variables, body);
        }
        let deadline = Instant::now() + patience;
        let stream = loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => panic!("nobody listens: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        stream.set_read_timeout(Some(patience)).unwrap();
        converse(stream, variables, body)
    }

    /// Stops the program with SIGTERM; returns its exit code and what it wrote outside the log.
    pub(crate) fn end(mut self) -> (i32, String) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
        let status = self.child.wait().unwrap();
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (status.code().unwrap_or(-1), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one request over FastCGI and returns the response.
fn converse(mut stream: impl Read + Write, variables: &[(&str, &str)], body: &str) -> String {
    let id = RequestId::new(1).unwrap();
    let mut connection = Connection::new();
    connection.begin(id, Role::Responder, false);
    let variables = [("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/")].iter().chain(variables);
    // Of equal names the last one wins here, so that a test can replace the usual values.
    let variables: std::collections::BTreeMap<_, _> = variables.copied().collect();
    connection
        .params(id, variables.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    connection.params_end(id);
    if !body.is_empty() {
        connection.stdin(id, body.as_bytes().to_vec().into());
    }
    connection.stdin_end(id);
    stream.write_all(&connection.take_unsent()).unwrap();
    let (mut response, mut buffer) = (Vec::new(), vec![0; 65_536]);
    loop {
        let length = match stream.read(&mut buffer) {
            // A read with a timeout is not restarted after a signal or when the machine was suspended.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            length => length.unwrap(),
        };
        assert!(length > 0, "the connection ended within the response");
        connection.handle_input(buffer[..length].to_vec().into());
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Stdout { data, .. } => response.extend_from_slice(&data),
                Event::End { .. } => return String::from_utf8(response).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
}
