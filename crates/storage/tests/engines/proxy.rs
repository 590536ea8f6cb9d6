//! A proxy that cuts connections to PostgreSQL at the worst moments.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::Path;
use std::rc::Rc;

use event_loop::net::{Address, Listener, Stream};
use postgres_fixture::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// When a proxy cuts a connection: at a message that contains these words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cut {
    /// The server never sees it.
    Before(&'static str),
    /// The server does it, and nobody hears of it.
    After(&'static str),
}

/// The cuts to come, in order.
pub(crate) type Cuts = Rc<RefCell<VecDeque<Cut>>>;

/// Listens in a folder like the server in its own, and passes connections on to it, until it cuts one. In what the server
/// says, the first letter of `hidden` is replaced.
pub(crate) fn proxy(server: &Server, folder: &Path, cuts: Cuts, hidden: Option<&'static str>) {
    let name = format!(".s.PGSQL.{}", server.port());
    let behind = server.socket_folder().join(&name);
    let mut listener = Listener::bind(&Address::Unix(folder.join(name))).unwrap();
    event_loop::spawn(async move {
        loop {
            let (client, _) = poll_fn(|context| listener.poll_accept(context)).await.unwrap();
            // Without a server, the client's connection is closed.
            if let Ok(server) = Stream::connect(&Address::Unix(behind.clone())).await {
                event_loop::spawn(pass_on(client, server, cuts.clone(), hidden)).detach();
            }
        }
    })
    .detach();
}

/// Returns the URL of servers in folders, with their ports, for who has to write.
pub(crate) fn url(servers: &[(&Path, u16)]) -> String {
    let hosts = servers.iter().map(|(folder, port)| {
        let folder = folder.to_str().unwrap().replace('/', "%2F");
        format!("{folder}:{port}")
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    format!("postgres://postgres@{hosts}/postgres?target_session_attrs=read-write")
}

async fn pass_on(client: Stream, server: Stream, cuts: Cuts, hidden: Option<&'static str>) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let is_cut = Cell::new(false);
    let up = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = from_client.read(&mut buffer).await.unwrap_or(0);
            let bytes = &buffer[..length];
            let next = cuts.borrow().front().copied();
            if let Some(cut @ (Cut::Before(words) | Cut::After(words))) = next
                && bytes.windows(words.len()).any(|window| window == words.as_bytes())
            {
                cuts.borrow_mut().pop_front();
                match cut {
                    Cut::Before(_) => return,
                    Cut::After(_) => is_cut.set(true),
                }
            }
            if length == 0 || to_server.write_all(bytes).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = from_server.read(&mut buffer).await.unwrap_or(0);
            if let Some(word) = hidden {
                let mut windows = buffer[..length].windows(word.len());
                if let Some(at) = windows.position(|window| window == word.as_bytes()) {
                    buffer[at] = b'x';
                }
            }
            if length == 0 || is_cut.get() || to_client.write_all(&buffer[..length]).await.is_err()
            {
                return;
            }
        }
    };
    futures_util::future::select(std::pin::pin!(up), std::pin::pin!(down)).await;
}
