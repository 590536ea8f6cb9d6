//! The `fastcgi` crate on descriptor 0. Posts are read and counted.

use std::io::{Read, Write};

fn main() {
    fastcgi::run(|mut request| {
        let post = request.param("REQUEST_METHOD").as_deref() == Some("POST");
        let mut bytes = 0_u64;
        if post {
            let mut buffer = [0; 65536];
            let mut body = request.stdin();
            while let Ok(count @ 1..) = body.read(&mut buffer) {
                bytes += count as u64;
            }
        }
        let mut out = request.stdout();
        let head = "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n";
        let _ = if post {
            write!(&mut out, "{head}{bytes}\n")
        } else {
            write!(&mut out, "{head}Hello, world!\n")
        };
    });
}
