//! Over TCP only the web servers that FCGI_WEB_SERVER_ADDRS names are served (FastCGI 1.0 §3.2).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// GET_VALUES without a name (§4.1): any FastCGI server answers it.
const QUESTION: [u8; 8] = [1, 9, 0, 0, 0, 0, 0, 0];

/// Sends a query from 127.0.0.1 to a program started with this list; returns how many bytes it replied, and what it
/// has logged so far.
fn ask(list: Option<&str>) -> (usize, String) {
    let (response, said) = send(list, &QUESTION);
    (response.len(), said)
}

/// Sends this to a program started with this list; returns its reply, up to eight bytes or the end of the
/// connection, and what it has logged so far.
fn send(list: Option<&str>, bytes: &[u8]) -> (Vec<u8>, String) {
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
    // A refused connection may be closed before this writes to it: then the read shows it.
    let _ = stream.write_all(bytes);
    let mut response = Vec::new();
    if bytes == QUESTION {
        // The connection stays open.
        response.resize(64, 0);
        let answered = stream.read(&mut response).unwrap_or(0);
        response.truncate(answered);
    } else {
        stream.read_to_end(&mut response).unwrap();
    }
    program.kill().unwrap();
    program.wait().unwrap();
    lines.read_to_string(&mut said).unwrap();
    (response, said)
}

/// A list that cannot be parsed was meant to restrict access: no request is served, and page and log say why.
#[test]
fn with_a_list_that_cannot_be_read_every_request_is_answered_503() {
    let record = |kind: u8, content: &[u8]| {
        let mut record = vec![1, kind, 0, 1, 0, content.len() as u8, 0, 0];
        record.extend_from_slice(content);
        record
    };
    let begin = record(1, &[0, 1, 0, 0, 0, 0, 0, 0]);
    let params = record(4, b"\x0e\x03REQUEST_METHODGET\x0b\x08REQUEST_URI/healthz");
    let request = [begin, params, record(4, b""), record(5, b"")].concat();
    for list in ["localhost", "", "127.0.0.1,,"] {
        let (response, said) = send(Some(list), &request);
        let response = String::from_utf8_lossy(&response);
        assert!(response.contains("Status: 503 "), "{list:?}: {response}\n{said}");
        assert!(
            response.contains("<html") && !response.contains("FCGI_WEB"),
            "{list:?}: {response}"
        );
        let cause = format!("FCGI_WEB_SERVER_ADDRS is {list:?}, which is not a list");
        // On startup, and with the reference of the page.
        assert_eq!(said.matches(&cause).count(), 2, "{said}");
    }
}

#[test]
fn only_listed_web_servers_are_served() {
    for list in ["127.0.0.1", "192.0.2.1, 127.0.0.1", "::ffff:127.0.0.1"] {
        let (answered, said) = ask(Some(list));
        assert_eq!(answered, 8, "{list}: {said}");
    }
    let (answered, said) = ask(Some("192.0.2.1,::1"));
    assert_eq!(answered, 0, "{said}");
    assert!(
        said.contains(
            "Connection refused: its address is not listed in FCGI_WEB_SERVER_ADDRS. address=127.0.0.1"
        ),
        "{said}"
    );
}

#[test]
fn without_a_list_all_are_served_with_a_warning() {
    let (answered, said) = ask(None);
    assert_eq!(answered, 8, "{said}");
    assert!(said.contains("WARN") && said.contains("Prefer unix:PATH"), "{said}");
}
