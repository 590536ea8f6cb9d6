//! tokio-fastcgi on a current_thread runtime and the socket at descriptor 0, as its examples do:
//! a task for each connection. Posts are read and counted.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;

use tokio::io::AsyncWrite;
use tokio::net::UnixListener;
use tokio_fastcgi::{Request, RequestResult, Requests};

async fn hello<W: AsyncWrite + Unpin + Send>(request: Arc<Request<W>>) -> RequestResult {
    let post = request.get_str_param("request_method") == Some("POST");
    let answer = if post {
        let mut bytes = 0_u64;
        let mut body = request.get_stdin();
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = body.read(&mut buffer) {
            bytes += count as u64;
        }
        format!("Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n{bytes}\n")
    } else {
        "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nHello, world!\n".to_owned()
    };
    match request.get_stdout().write(answer.as_bytes()).await {
        Ok(_) => RequestResult::Complete(0),
        Err(_) => RequestResult::Complete(1),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let descriptor: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
    let listener = StdListener::from(descriptor);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut requests = Requests::from_split_socket(socket.into_split(), 64, 64);
            while let Ok(Some(request)) = requests.next().await {
                // A task for each request, so that one connection can carry many at once.
                tokio::spawn(async move {
                    let _ = request.process(|request| hello(request)).await;
                });
            }
        });
    }
}
