//! TLS: which certificates are accepted.
//!
//! tokio-postgres-rustls does the same, but brings tokio's sockets and timers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tls_client::Roots;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
};

use crate::certificate::hash_for_channel_binding;
use crate::error::PoolError;
use crate::url::Security;
use crate::wire::Wire;

/// Returns the configuration for this kind of security; `None` for none. Reads the certificates of the authorities.
pub(crate) fn configure(security: &Security) -> Result<Option<Arc<ClientConfig>>, PoolError> {
    let provider = tls_client::provider();
    let builder = tls_client::builder(Arc::clone(&provider));
    let read = |roots: &Roots| roots.read().map_err(|problem| PoolError::Roots { problem });
    let lenient = |authorities| Arc::new(Lenient { authorities, provider: Arc::clone(&provider) });
    let builder = match security {
        Security::Plain => return Ok(None),
        Security::Unverified => builder.dangerous().with_custom_certificate_verifier(lenient(None)),
        Security::Authority(file) => {
            let roots = read(&Roots::File(file.clone()))?;
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .expect("there are authorities, and no revocation lists");
            builder.dangerous().with_custom_certificate_verifier(lenient(Some(verifier)))
        }
        Security::Name(roots) => builder.with_root_certificates(read(roots)?),
    };
    Ok(Some(Arc::new(builder.with_no_client_auth())))
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
            let inner = tls_client::connect(stream, config, &self.name).await?;
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
