//! The real program: tokio's clock, tokio's sockets and tower-http's layer, on one thread.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// The program on a free port; killed when dropped.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start() -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_axum-on-tokio"))
            .arg("http:127.0.0.1:0")
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It logs its address as soon as it listens.
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let at = line.find("http://").unwrap_or_else(|| panic!("{line:?}")) + "http://".len();
        let address = line[at..].trim().trim_end_matches('.').to_owned();
        Program { child, address }
    }

    /// Returns status and body of a GET.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), body.to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only if it has already exited.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

#[test]
fn an_application_that_uses_tokio_runs_unchanged_on_one_thread() {
    let program = Program::start();
    let cases = [
        ("/", 200, "Hello from tokio on one thread\n"),
        ("/sleep/10", 200, "slept 10 ms\n"),
        ("/sleep/60000", 504, ""),
        ("/socket", 200, "there and back\n"),
    ];
    for (path, status, body) in cases {
        assert_eq!(program.get(path), (status, body.to_owned()), "{path}");
    }
    // Many at once: tokio's clock wakes our loop while nothing else does.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(|| program.get("/sleep/50").0)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 20]);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", program.child.id())).unwrap();
    assert_eq!(tasks.count(), 1);
}
