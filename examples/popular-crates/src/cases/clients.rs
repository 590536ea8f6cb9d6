//! Requests to other servers.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use lettre::message::Mailbox;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, SmtpTransport, Tokio1Executor, Transport,
};

use crate::case::{Answer, MadeRouter, Problem, handler, made, server};

/// As with every client, a request that never ends would be a request of ours that never ends.
const PATIENCE: Duration = Duration::from_secs(5);

async fn fetch(client: reqwest::Client, url: String) -> Answer {
    Ok(client.get(url).send().await?.text().await?)
}

pub(crate) fn reqwest_to_an_address() -> MadeRouter {
    handler(async || -> Answer {
        let client = reqwest::Client::builder().no_hickory_dns().timeout(PATIENCE).build()?;
        fetch(client, server("TRY_HTTP")?).await
    })
}

pub(crate) fn reqwest_to_a_name() -> MadeRouter {
    handler(async || -> Answer {
        let client = reqwest::Client::builder().no_hickory_dns().timeout(PATIENCE).build()?;
        fetch(client, by_name("TRY_HTTP")?).await
    })
}

pub(crate) fn reqwest_with_hickory() -> MadeRouter {
    handler(async || -> Answer {
        let client = reqwest::Client::builder().hickory_dns(true).timeout(PATIENCE).build()?;
        fetch(client, by_name("TRY_HTTP")?).await
    })
}

pub(crate) fn reqwest_blocking() -> MadeRouter {
    handler(async || -> Answer { Ok(reqwest::blocking::get(server("TRY_HTTP")?)?.text()?) })
}

fn ureq(agent: ureq::config::ConfigBuilder<ureq::typestate::AgentScope>) -> Answer {
    let agent = ureq::Agent::new_with_config(agent.build());
    Ok(agent.get(server("TRY_HTTP")?).call()?.body_mut().read_to_string()?)
}

pub(crate) fn ureq_in_time() -> MadeRouter {
    handler(async || ureq(ureq::Agent::config_builder().timeout_global(Some(PATIENCE))))
}

/// Its steps have timeouts, but for the resolver.
pub(crate) fn ureq_step_by_step() -> MadeRouter {
    handler(async || {
        let steps = ureq::Agent::config_builder().timeout_connect(Some(PATIENCE));
        let steps = steps.timeout_send_request(Some(PATIENCE));
        ureq(steps.timeout_recv_response(Some(PATIENCE)).timeout_recv_body(Some(PATIENCE)))
    })
}

fn by_name(variable: &str) -> Answer {
    Ok(server(variable)?.replace("127.0.0.1", "localhost"))
}

fn message() -> Result<Message, Problem> {
    let from: Mailbox = "Site <site@example.org>".parse()?;
    let to: Mailbox = "Ann <ann@example.org>".parse()?;
    Ok(Message::builder().from(from).to(to).subject("Hello").body("Hello, Ann.".to_owned())?)
}

fn mail_server() -> Result<(String, u16), Problem> {
    let server = server("TRY_MAIL")?;
    let (host, port) = server.rsplit_once(':').ok_or("it has no port")?;
    Ok((host.to_owned(), port.parse()?))
}

async fn mail(host: String, port: u16) -> Answer {
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port);
    let transport = transport.timeout(Some(PATIENCE)).build();
    let response = transport.send(message()?).await?;
    Ok(format!("sent: {}", response.message().collect::<Vec<_>>().join(" ")))
}

pub(crate) fn lettre_to_an_address() -> MadeRouter {
    handler(async || -> Answer {
        let (host, port) = mail_server()?;
        mail(host, port).await
    })
}

pub(crate) fn lettre_to_a_name() -> MadeRouter {
    handler(async || -> Answer { mail("localhost".to_owned(), mail_server()?.1).await })
}

pub(crate) fn lettre_blocking() -> MadeRouter {
    handler(async || -> Answer {
        let (host, port) = mail_server()?;
        let transport = SmtpTransport::builder_dangerous(host).port(port);
        let response = transport.timeout(Some(PATIENCE)).build().send(&message()?)?;
        Ok(format!("sent: {}", response.message().collect::<Vec<_>>().join(" ")))
    })
}

pub(crate) fn sentry() -> MadeRouter {
    made(async {
        let dsn = server("TRY_HTTP")?.replace("http://", "http://key@") + "1";
        let guard = sentry::init((dsn, sentry::ClientOptions::default()));
        // It lives as long as the process.
        std::mem::forget(guard);
        let report = get(async || -> Answer {
            sentry::capture_message("reported", sentry::Level::Info);
            let client = sentry::Hub::current().client().ok_or("there is no client")?;
            let is_sent = client.flush(Some(Duration::from_secs(2)));
            if is_sent {
                Ok("it is delivered".to_owned())
            } else {
                Err("it is never delivered".into())
            }
        });
        Ok(Router::new().route("/", report))
    })
}
