//! TLS for clients of a server: which authorities are trusted, and the handshake. By rustls, with ring's cryptography.
//!
//! Streams are the caller's, and so is what happens to a server whose certificate is not trusted.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Which authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The system's.
    System,
    /// Those whose certificates (PEM) are in this file.
    File(PathBuf),
}

impl Roots {
    /// Reads the certificates: at least one. To read those of the system takes some 10 ms.
    ///
    /// # Errors
    ///
    /// If there is none; why, with the name of the file.
    pub fn read(&self) -> Result<Arc<RootCertStore>, String> {
        let (certificates, otherwise) = match self {
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                // One that cannot be read does not matter, unless there is no other.
                let otherwise = match found.errors.first() {
                    Some(error) => error.to_string(),
                    None => "the system has none".to_owned(),
                };
                (found.certs, otherwise)
            }
            Roots::File(path) => {
                let path_shown = path.display();
                let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
                let certificates = read.map_err(|error| format!("{path_shown}: {error}"))?;
                (certificates, format!("{path_shown} has none"))
            }
        };
        let mut store = RootCertStore::empty();
        match store.add_parsable_certificates(certificates) {
            (0, _) => Err(otherwise),
            _ => Ok(Arc::new(store)),
        }
    }
}

/// Starts a configuration, with this [`provider`].
///
/// # Panics
///
/// If the provider has no cipher suites for the default versions of TLS; ring has.
pub fn builder(provider: Arc<CryptoProvider>) -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for the default versions")
}

/// Returns ring's cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Performs the handshake with the server `name`, which may be an IP address.
///
/// # Errors
///
/// If the configuration does not trust the server's certificate, or the connection breaks.
pub async fn connect<S>(
    stream: S,
    config: Arc<ClientConfig>,
    name: &str,
) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}
