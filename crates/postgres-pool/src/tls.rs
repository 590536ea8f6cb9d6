//! TLS by rustls, with ring's cryptography.
//!
//! tokio-postgres-rustls does the same, but brings tokio's sockets and timers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring as ring_provider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::certificate::hash_for_channel_binding;
use crate::error::PoolError;
use crate::url::{Roots, Security};
use crate::wire::Wire;

/// Returns the configuration for this kind of security; `None` for none. Reads the certificates of the authorities.
pub(crate) fn configure(security: &Security) -> Result<Option<Arc<ClientConfig>>, PoolError> {
    let provider = Arc::new(ring_provider::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for the default versions");
    let lenient = |authorities| Arc::new(Lenient { authorities, provider: Arc::clone(&provider) });
    let builder = match security {
        Security::Plain => return Ok(None),
        Security::Unverified => builder.dangerous().with_custom_certificate_verifier(lenient(None)),
        Security::Authority(file) => {
            let roots = read_roots(&Roots::File(file.clone()))?;
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .expect("there are authorities, and no revocation lists");
            builder.dangerous().with_custom_certificate_verifier(lenient(Some(verifier)))
        }
        Security::Name(roots) => builder.with_root_certificates(read_roots(roots)?),
    };
    Ok(Some(Arc::new(builder.with_no_client_auth())))
}

/// Returns at least one authority. To read those of the system takes some 10 ms, once.
fn read_roots(roots: &Roots) -> Result<Arc<RootCertStore>, PoolError> {
    let failed = |problem| Err(PoolError::Roots { problem });
    let (certificates, place) = match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            // One that cannot be read does not matter, unless there is no other.
            let place = match found.errors.first() {
                Some(error) => error.to_string(),
                None => "the system has none".to_owned(),
            };
            (found.certs, place)
        }
        Roots::File(path) => {
            let place = path.display().to_string();
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            match read {
                Ok(certificates) => (certificates, format!("{place} has none")),
                Err(error) => return failed(format!("{place}: {error}")),
            }
        }
    };
    let mut store = RootCertStore::empty();
    match store.add_parsable_certificates(certificates) {
        (0, _) => failed(place),
        _ => Ok(Arc::new(store)),
    }
}

/// Accepts certificates for whatever name, of these authorities or of anybody. That the server has the certificate's
/// key is checked.
#[derive(Debug)]
struct Lenient {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            // The name is looked at last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Performs the handshake with the server of a name.
pub(crate) struct Handshake {
    /// `None` if there is to be none; then it is never called.
    pub(crate) config: Option<Arc<ClientConfig>>,
    pub(crate) name: String,
}

impl TlsConnect<Wire> for Handshake {
    type Stream = EncryptedStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<EncryptedStream>> + Send>>;

    fn connect(self, stream: Wire) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or(io::ErrorKind::Unsupported)?;
            let name = ServerName::try_from(self.name).map_err(io::Error::other)?;
            let inner = TlsConnector::from(config).connect(name, stream).await?;
            Ok(EncryptedStream { inner })
        })
    }
}

/// A stream inside TLS.
pub(crate) struct EncryptedStream {
    inner: tokio_rustls::client::TlsStream<Wire>,
}

impl TlsStream for EncryptedStream {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.inner.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        match certificate.and_then(|certificate| hash_for_channel_binding(certificate)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for EncryptedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for EncryptedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
