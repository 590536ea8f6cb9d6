//! The servers that cases connect to: PostgreSQL, Redis, and two of our own, for HTTP and for mail.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use end_to_end::fixtures::start_on_free_port;
use end_to_end::program::{Program, Start};
use tempfile::TempDir;

/// All of them; dropping it ends those that are programs.
pub(crate) struct Servers {
    postgres: postgres_fixture::Server,
    redis: (SocketAddr, Program),
    http: SocketAddr,
    mail: SocketAddr,
    _folder: TempDir,
}

impl Servers {
    /// Starts them.
    pub(crate) fn start() -> io::Result<Servers> {
        let folder = tempfile::tempdir()?;
        let redis = start_on_free_port(|address| {
            Start::new("/usr/bin/redis-server", folder.path().join("redis.log"))
                .folder(folder.path())
                .argument("--port")
                .argument(address.port().to_string())
                .argument("--bind")
                .argument("127.0.0.1")
                // It keeps nothing on disk.
                .argument("--save")
                .argument("")
                .start()
        })?;
        Ok(Servers {
            postgres: postgres_fixture::Server::start(),
            redis,
            http: serve(respond)?,
            mail: serve(take_mail)?,
            _folder: folder,
        })
    }

    /// Returns the variables by which the cases find them. None has a host name in it, which would be looked up.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("TRY_POSTGRES", self.postgres.tcp_url().replace("localhost", "127.0.0.1")),
            ("TRY_REDIS", format!("redis://{}/", self.redis.0)),
            ("TRY_HTTP", format!("http://{}/", self.http)),
            ("TRY_MAIL", self.mail.to_string()),
        ]
    }
}

/// Serves each connection in a thread. They end with this program.
fn serve(connection: fn(TcpStream) -> io::Result<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that leaves early is its own affair.
            thread::spawn(move || connection(stream));
        }
    });
    Ok(address)
}

/// Responds to one request, whatever it asks for.
fn respond(mut stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    io::copy(&mut reader.take(length), &mut io::sink())?;
    let body = "from another server\n";
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Takes one message (RFC 5321), and drops it.
fn take_mail(mut stream: TcpStream) -> io::Result<()> {
    let reader = BufReader::new(stream.try_clone()?);
    let mut is_in_message = false;
    writeln!(stream, "220 mail.example ESMTP\r")?;
    for line in reader.lines() {
        let line = line?.to_ascii_uppercase();
        let reply = match line.split(' ').next().unwrap_or_default() {
            "." => "250 taken",
            _ if is_in_message => continue,
            "DATA" => "354 go ahead",
            "QUIT" => "221 bye",
            _ => "250 mail.example",
        };
        is_in_message = line == "DATA";
        writeln!(stream, "{reply}\r")?;
    }
    Ok(())
}
