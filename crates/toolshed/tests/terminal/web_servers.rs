//! Over TCP only the web servers that FCGI_WEB_SERVER_ADDRS names are served (FastCGI 1.0 §3.2).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// GET_VALUES without a name (§4.1): any FastCGI server answers it.
const QUESTION: [u8; 8] = [1, 9, 0, 0, 0, 0, 0, 0];

/// Asks a program started with this list from 127.0.0.1; returns how many bytes it answered, and
/// what it said until then.
fn ask(list: Option<&str>) -> (usize, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_toolshed"));
    program.args(["fastcgi", "--listen", "tcp:127.0.0.1:0"]).stderr(Stdio::piped());
    program.env_remove("FCGI_WEB_SERVER_ADDRS");
    if let Some(list) = list {
        program.env("FCGI_WEB_SERVER_ADDRS", list);
    }
    let mut program = program.spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(program.stderr.take().unwrap());
    let address = loop {
        let before = said.len();
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        if let Some((_, address)) = said[before..].trim_end().split_once("Serving FastCGI on tcp:")
        {
            break address.trim_end_matches('.').to_owned();
        }
    };
    let mut stream = TcpStream::connect(address).unwrap();
    // Refused, it may be closed before it could write: then reading tells.
    let _ = stream.write_all(&QUESTION);
    let mut answer = [0; 64];
    let answered = stream.read(&mut answer).unwrap_or(0);
    program.kill().unwrap();
    program.wait().unwrap();
    lines.read_to_string(&mut said).unwrap();
    (answered, said)
}

#[test]
fn only_those_named_are_served() {
    for list in ["127.0.0.1", "192.0.2.1, 127.0.0.1", "::ffff:127.0.0.1"] {
        let (answered, said) = ask(Some(list));
        assert_eq!(answered, 8, "{list}: {said}");
    }
    let (answered, said) = ask(Some("192.0.2.1,::1"));
    assert_eq!(answered, 0, "{said}");
    assert!(
        said.contains("127.0.0.1 was closed: FCGI_WEB_SERVER_ADDRS does not name it"),
        "{said}"
    );
}

#[test]
fn without_a_list_everybody_is_served_and_the_owner_is_warned() {
    let (answered, said) = ask(None);
    assert_eq!(answered, 8, "{said}");
    assert!(said.contains("WARN") && said.contains("Prefer unix:PATH"), "{said}");
}
