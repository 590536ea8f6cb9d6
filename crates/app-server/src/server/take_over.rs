//! The receiving end of a handover: continues the connections that the previous image of the process has left.

use std::os::fd::{AsFd, OwnedFd};

use event_loop::net::{Address, Stream};
use event_loop::time;

use crate::connections::IdleConnection;
use crate::recovery::ConnectionGuard;
use crate::request::service::HttpService;
use crate::server::process::ServingProcess;
use crate::transport::linger;
use crate::upgrade::handover::HandoverState;

impl<S: HttpService> ServingProcess<S> {
    /// Takes over what the previous image of the process has left.
    pub(super) fn take_over(&self, inherited: HandoverState) {
        for connection in inherited.keep_alive {
            match Stream::from_fd(connection) {
                Ok(stream) => {
                    let peer = match stream.peer_address() {
                        Ok(Address::Tcp(peer)) => Some(peer),
                        _ => None,
                    };
                    let format = self.listening.on.protocol.reply_format();
                    self.resume_connection(IdleConnection::new(stream, peer, format));
                }
                Err(error) => tracing::debug!("Connection lost in the handover: {error}."),
            }
        }
        for answered in inherited.unread {
            self.read_to_the_end(answered);
        }
    }

    /// Reads and drops what still arrives on a connection whose request has been answered.
    fn read_to_the_end(&self, answered: OwnedFd) {
        let Ok(stream) = Stream::from_fd(answered) else { return };
        let limit = self.application.settings.unread_body_bytes;
        let patience = self.application.settings.receive_timeout;
        let registration = self.connections.enter(None);
        // Registered so that it is read to its end even after another crash.
        let format = self.listening.on.protocol.reply_format();
        let guard = ConnectionGuard::register_answered(stream.as_fd(), format);
        event_loop::spawn(async move {
            let _guard = guard;
            let _ = time::timeout(patience, linger::discard(stream, limit)).await;
            drop(registration);
        })
        .detach();
    }
}
