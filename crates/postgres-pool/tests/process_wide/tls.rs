//! TLS: never less than what was asked for.

use super::common::*;

pub(crate) fn certificates_are_verified() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start_with_tls(&authority);
    let (right, wrong) = (authority.certificate(), other.certificate());
    let (right, wrong) = (right.display(), wrong.display());
    run(async {
        for (host, query, problem) in [
            // The certificate is for localhost.
            ("localhost", format!("sslmode=verify-full&sslrootcert={right}"), None),
            ("localhost", format!("sslrootcert={right}"), None),
            ("127.0.0.1", format!("sslrootcert={right}"), Some("not valid for name")),
            ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={right}"), None),
            ("127.0.0.1", format!("sslmode=require&sslrootcert={right}"), None),
            ("127.0.0.1", "sslmode=require".to_owned(), None),
            ("localhost", format!("sslrootcert={wrong}"), Some("sslrootcert=FILE")),
            // The system does not know it, if it knows any.
            ("localhost", "sslmode=verify-full".to_owned(), Some("sslrootcert=FILE")),
            ("localhost", format!("sslmode=verify-ca&sslrootcert={wrong}"), Some("UnknownIssuer")),
            ("localhost", format!("sslmode=require&sslrootcert={wrong}"), Some("UnknownIssuer")),
            ("localhost", "sslrootcert=/nowhere".to_owned(), Some("(/nowhere: ")),
            ("localhost", "sslrootcert=/dev/null".to_owned(), Some("(/dev/null has none)")),
        ] {
            let url = server.tcp_url().replace("localhost", host) + "?" + &query;
            match problem {
                None => {
                    let connection = pool(&url).connection().await.unwrap();
                    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                    assert_eq!(value(&connection, sql).await, "t", "{url}");
                    connection.release();
                }
                Some(problem) => {
                    let failure = failure(&pool(&url)).await;
                    assert!(failure.to_string().contains(problem), "{url}: {failure}");
                }
            }
        }
    });
}

/// Whatever is asked for, there is no connection without it.
pub(crate) fn no_tls_is_an_error() {
    let server = Server::start();
    run(async {
        let url = server.tcp_url();
        for query in ["sslmode=require", "sslmode=verify-full"] {
            let failure = failure(&pool(&format!("{url}?{query}"))).await;
            assert!(matches!(failure, PoolError::Tls { .. }), "{query}: {failure}");
            assert!(failure.to_string().contains("sslmode=disable"), "{query}: {failure}");
        }
        let failure = failure(&pool(&(url + "?channel_binding=require"))).await;
        assert!(matches!(failure, PoolError::LoginRefused { .. }), "{failure}");
        assert_eq!(server.psql(CONNECTIONS), "0");
    });
}

pub(crate) fn logins_are_bound_to_their_channel() {
    let server = Server::start_with_tls(&Authority::new());
    run(async {
        let url = server.tcp_url() + "?sslmode=require&channel_binding=require";
        let version = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        for protocol in ["TLSv1.3", "TLSv1.2"] {
            server.psql(&format!("ALTER SYSTEM SET ssl_max_protocol_version = '{protocol}'"));
            server.psql("SELECT pg_reload_conf()");
            let start = Instant::now();
            loop {
                let connection = pool(&url).connection().await.unwrap();
                if value(&connection, version).await == protocol {
                    break connection.release();
                }
                assert!(start.elapsed() < milliseconds(5000), "never {protocol}");
            }
        }
        let failure = failure(&pool(&url.replace(PASSWORD_IN_URL, "wrong"))).await;
        assert!(matches!(failure, PoolError::LoginRefused { .. }), "{failure}");
    });
}

pub(crate) fn statements_are_cancelled_over_tls() {
    let authority = Authority::new();
    let server = Server::start_with_tls(&authority);
    run(async {
        let certificate = authority.certificate();
        let url = format!("{}?sslrootcert={}", server.tcp_url(), certificate.display());
        let connection = pool(&url).connection().await.unwrap();
        let sleeping = spawn(async move {
            let _ = connection.execute("SELECT pg_sleep(100)", &[]).await;
        });
        until(&server, ACTIVE, "1").await;
        drop(sleeping);
        until(&server, CONNECTIONS, "0").await;
        assert!(server.log().contains("canceling statement due to user request"));
    });
}
