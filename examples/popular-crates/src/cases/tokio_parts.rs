//! tokio's own parts.

use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::case::{Answer, MadeRouter, handler, server};

pub(crate) fn time() -> MadeRouter {
    handler(async || -> Answer {
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        if begun.elapsed() < Duration::from_millis(20) {
            return Err("it did not wait".into());
        }
        Ok("waited".to_owned())
    })
}

pub(crate) fn spawn() -> MadeRouter {
    handler(async || -> Answer {
        let (send, received) = tokio::sync::oneshot::channel();
        tokio::spawn(async move { send.send(42) });
        Ok(format!("sum {}", received.await?))
    })
}

pub(crate) fn sockets() -> MadeRouter {
    handler(async || -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let connected = TcpStream::connect(listener.local_addr()?);
        let (accepted, connected) = tokio::join!(listener.accept(), connected);
        accepted?;
        connected?;
        Ok("connected".to_owned())
    })
}

pub(crate) fn to_a_name() -> MadeRouter {
    handler(async || -> Answer {
        let port = server("TRY_MAIL")?.rsplit_once(':').ok_or("it has no port")?.1.parse()?;
        let _: TcpStream = TcpStream::connect(("localhost", port)).await?;
        Ok("connected".to_owned())
    })
}

pub(crate) fn fs() -> MadeRouter {
    handler(async || -> Answer { Ok(tokio::fs::read_to_string(crate::case::FILE).await?) })
}

pub(crate) fn spawn_blocking() -> MadeRouter {
    handler(async || -> Answer {
        let sum = tokio::task::spawn_blocking(|| 42).await?;
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn block_in_place() -> MadeRouter {
    handler(async || -> Answer { Ok(format!("sum {}", tokio::task::block_in_place(|| 42))) })
}

pub(crate) fn process() -> MadeRouter {
    handler(async || -> Answer {
        let output = Command::new("echo").arg("from a child").output().await?;
        if !output.status.success() {
            return Err(format!("it ended: {}", output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    })
}

pub(crate) fn signals() -> MadeRouter {
    handler(async || -> Answer {
        let mut signals = signal(SignalKind::user_defined2())?;
        let kill = std::process::id().to_string();
        std::process::Command::new("kill").args(["-USR2", &kill]).status()?;
        let received = tokio::time::timeout(Duration::from_secs(5), signals.recv()).await?;
        received.map(|()| "received".to_owned()).ok_or_else(|| "it is closed".into())
    })
}

pub(crate) fn runtime_of_several_threads() -> MadeRouter {
    handler(async || -> Answer {
        let runtime = tokio::runtime::Runtime::new()?;
        let sum = runtime.spawn(async { 42 }).await?;
        runtime.shutdown_background();
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn runtime_within() -> MadeRouter {
    handler(async || -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(format!("sum {}", runtime.block_on(async { 42 })))
    })
}

pub(crate) fn streams() -> MadeRouter {
    handler(async || -> Answer {
        let numbers = futures::stream::iter(0..4).map(async |number| number * 7).buffered(2);
        let sum: i32 = numbers.collect::<Vec<_>>().await.into_iter().sum();
        Ok(format!("sum {sum}"))
    })
}
