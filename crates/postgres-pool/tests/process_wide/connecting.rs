//! Hosts, names, logins, and what is said if they are wrong.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use super::common::*;

pub(crate) fn the_unix_socket() {
    let server = Server::start();
    run(async {
        let other_form = format!(
            "postgres:///postgres?user=postgres&host={}&port={}",
            server.socket_folder().display(),
            server.port()
        );
        for url in [server.url(), other_form] {
            let connection = pool(&url).connection().await.unwrap();
            for (setting, expected) in [
                ("application_name", "toolshed"),
                ("statement_timeout", "30s"),
                ("lock_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "10s"),
            ] {
                assert_eq!(value(&connection, &format!("SHOW {setting}")).await, expected);
            }
            connection.release();
        }
        // What the URL says is stronger.
        let url = server.url() + "?application_name=mine&options=-c%20lock_timeout%3D7";
        let connection = pool(&url).connection().await.unwrap();
        assert_eq!(value(&connection, "SHOW application_name").await, "mine");
        assert_eq!(value(&connection, "SHOW lock_timeout").await, "7ms");
    });
}

pub(crate) fn tcp_with_a_password() {
    let server = Server::start();
    run(async {
        for host in ["localhost", "127.0.0.1"] {
            let url = server.tcp_url().replace("localhost", host);
            let connection = pool(&url).connection().await.unwrap();
            let address = value(&connection, "SELECT inet_client_addr()").await;
            assert_eq!(address, "127.0.0.1", "{host}");
            connection.release();
        }
    });
}

/// In upper case, because `localhost` is known without a look-up. It may have an IPv6 address, too, which the server
/// does not listen on.
pub(crate) fn names_are_resolved() {
    let server = Server::start();
    run(async {
        let url = server.tcp_url().replace("localhost", "LOCALHOST") + "?sslmode=disable";
        let connection = pool(&url).connection().await.unwrap();
        assert_eq!(value(&connection, "SELECT 1").await, "1");

        let failure = failure(&pool("postgres://me:secret@nowhere.invalid/mine")).await;
        assert!(
            matches!(&failure, PoolError::NameNotFound { name, .. } if name == "nowhere.invalid")
        );
        assert!(failure.to_string().contains("nowhere.invalid, cannot be resolved"), "{failure}");
    });
}

pub(crate) fn errors_say_what_is_wrong() {
    let server = Server::start();
    server.psql("CREATE ROLE single LOGIN PASSWORD 'x' CONNECTION LIMIT 1");
    let port = server.port();
    let at_server = format!("localhost:{port} (127.0.0.1)");
    let tcp = server.tcp_url();
    run(async {
        let taken = pool(&format!("postgres://single:x@localhost:{port}/postgres"));
        let taken = taken.connection().await.unwrap();
        for (url, text) in [
            (
                tcp.replace(PASSWORD_IN_URL, "wrong"),
                format!("PostgreSQL at {at_server} does not let postgres in: password auth"),
            ),
            (
                tcp.replace(&format!(":{PASSWORD_IN_URL}"), ""),
                format!("PostgreSQL at {at_server} does not let postgres in: password missing;"),
            ),
            (
                server.url().replace("postgres@", "nobody@"),
                format!(".s.PGSQL.{port} does not let nobody in: role \"nobody\" does not"),
            ),
            (
                tcp.strip_suffix("postgres").unwrap().to_owned() + "none",
                format!("PostgreSQL at {at_server} refuses the connection: database \"none\""),
            ),
            (
                format!("postgres://single:x@localhost:{port}/postgres"),
                format!("PostgreSQL at {at_server} refuses the connection: too many"),
            ),
            (
                tcp.replace(&port.to_string(), "1"),
                "PostgreSQL cannot be reached at localhost:1 (127.0.0.1): Connection refused"
                    .into(),
            ),
            (
                "postgres://me@%2Fnowhere/mine".to_owned(),
                "PostgreSQL cannot be reached at /nowhere/.s.PGSQL.5432: No such file".to_owned(),
            ),
            (
                server.url() + "?options=-c%20nonsense%3D1",
                format!(".s.PGSQL.{port} refuses the connection: unrecognized configuration"),
            ),
        ] {
            let failure = failure(&pool(&url)).await;
            assert!(failure.to_string().contains(&text), "{failure}\n{text}");
        }
        drop(taken);
    });
}

pub(crate) fn the_password_is_in_no_log() {
    let server = Server::start();
    let path = std::env::var_os(case_runner::NOTES).unwrap();
    let log = Arc::new(File::options().append(true).open(&path).unwrap());
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    subscriber.with_writer(log).init();
    run(async {
        let connection = pool(&server.tcp_url()).connection().await.unwrap();
        let process = process_of(&connection).await;
        server.psql(&format!("SELECT pg_terminate_backend({process}, 5000)"));
        connection.query("SELECT 1", &[]).await.unwrap_err();
        drop(connection);
        failure(&pool(&server.tcp_url().replace(&server.port().to_string(), "1"))).await;
    });
    let log = std::fs::read_to_string(path).unwrap();
    assert!(log.contains("Connected to PostgreSQL") && log.contains("Lost a connection"), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains(PASSWORD_IN_URL), "{log}");
}

pub(crate) fn a_server_that_shuts_down() {
    let server = Server::start();
    run(async {
        let pool = pool(&server.url());
        let held = pool.connection().await.unwrap();
        server.refuse_connections();
        let failure = loop {
            match pool.connection().await {
                // The signal has not arrived yet.
                Ok(connection) => drop(connection),
                Err(failure) => break failure,
            }
        };
        assert!(matches!(failure, PoolError::NotReady { .. }), "{failure}");
        assert!(failure.to_string().contains("shutting down"), "{failure}");
        held.release();
    });
}

pub(crate) fn a_server_that_does_not_respond() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    run(async {
        let silent_url = format!("postgres://me@127.0.0.1:{port}/mine");
        let silent_pool = pool_with(&silent_url, |settings| {
            settings.connect_timeout = milliseconds(50);
        });
        let failure = failure(&silent_pool).await;
        let expected =
            PoolError::TimedOut { address: format!("127.0.0.1:{port}"), after: milliseconds(50) };
        assert_eq!(failure, expected);
        drop(silent.accept().unwrap());

        // What is no PostgreSQL.
        let pool = pool(&silent_url);
        let connecting = spawn(async move { super::common::failure(&pool).await });
        sleep(milliseconds(20)).await;
        silent.accept().unwrap().0.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        let failure = connecting.await;
        assert!(matches!(failure, PoolError::Unreachable { .. }), "{failure}");
    });
}

pub(crate) fn another_host_is_tried() {
    let replica = Server::start_with(&["default_transaction_read_only=on"]);
    let primary = Server::start();
    run(async {
        let tcp = primary.tcp_url();
        let hosts = format!("localhost:1,localhost:{}", replica.port());
        let read_only = tcp.replace(&format!("localhost:{}", primary.port()), &hosts);
        let all = tcp.replace("localhost", &format!("{hosts},localhost"));
        for (url, port) in [
            (all.clone(), replica.port()),
            (all.clone() + "?target_session_attrs=any", replica.port()),
            (all + "?target_session_attrs=read-write", primary.port()),
        ] {
            let connection = pool(&url).connection().await.unwrap();
            assert_eq!(value(&connection, "SHOW port").await, port.to_string(), "{url}");
        }
        let failure = failure(&pool(&(read_only + "?target_session_attrs=read-write"))).await;
        let PoolError::AllFailed(failures) = failure else { panic!("{failure}") };
        assert!(
            matches!(failures[..], [PoolError::Unreachable { .. }, PoolError::ReadOnly { .. }]),
            "{failures:?}"
        );
    });
}

/// Its machine hangs, or packets to it are lost.
pub(crate) fn a_host_that_does_not_respond_is_waited_for_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let server = Server::start();
    run(async {
        let hosts = format!("@127.0.0.1:{port},localhost");
        let pool = pool_with(&server.tcp_url().replace("@localhost", &hosts), |settings| {
            settings.connect_timeout = milliseconds(300);
        });
        let started = Instant::now();
        let first = pool.connection().await.unwrap();
        assert!(started.elapsed() >= milliseconds(300), "{:?}", started.elapsed());
        silent.set_nonblocking(true).unwrap();
        let _its_connection = silent.accept().unwrap();
        let second = pool.connection().await.unwrap();
        assert_ne!(process_of(&first).await, process_of(&second).await);
        let error = silent.accept().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "it is asked again");
    });
}

/// One connection finds out that its server hangs; the others are not tried one after the other, nor is the server.
pub(crate) fn a_server_that_hangs_is_left_for_another_one() {
    let (hanging, other) = (Server::start(), Server::start());
    run(async {
        let hosts = format!("{},localhost:{}", hanging.port(), other.port());
        let url = hanging.tcp_url().replace(&hanging.port().to_string(), &hosts);
        let pool = pool_with(&url, |settings| settings.statement_timeout = milliseconds(500));
        let connections = [pool.connection().await, pool.connection().await];
        for connection in connections.map(Result::unwrap) {
            assert_eq!(value(&connection, "SHOW port").await, hanging.port().to_string());
            connection.release();
        }
        hanging.hang();
        let connection = pool.connection().await.unwrap();
        connection.query("SELECT 1", &[]).await.unwrap_err();
        drop(connection);
        let started = Instant::now();
        let connection = pool.connection().await.unwrap();
        assert_eq!(value(&connection, "SHOW port").await, other.port().to_string());
        assert!(started.elapsed() < milliseconds(1000), "{:?}", started.elapsed());
    });
}
