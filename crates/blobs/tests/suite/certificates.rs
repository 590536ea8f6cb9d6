//! Certificates for a test, made by the program openssl.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority that exists for one test.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let authority = Authority { folder: tempfile::tempdir().unwrap() };
        std::fs::write(authority.path("config"), CONFIG).unwrap();
        authority.openssl("ca", &[]);
        authority
    }

    /// Returns the file with its certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// Returns a server's configuration with a certificate for `localhost`.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let (certificate, key) = (self.path("ca.crt"), self.path("ca.key"));
        self.openssl("server", &[Path::new("-CA"), &certificate, Path::new("-CAkey"), &key]);
        let certificate = CertificateDer::from_pem_file(self.path("server.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
    }

    /// Makes a key and a certificate of this kind, which is a section of the configuration.
    fn openssl(&self, kind: &str, signer: &[&Path]) {
        // Two authorities of one name are not told apart by it.
        let name = self.folder.path().file_name().unwrap().to_str().unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-days", "2", "-nodes", "-newkey", "ec"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        openssl.args(["-subj", &format!("/CN={kind}{name}"), "-extensions", kind]).args(signer);
        openssl.arg("-config").arg(self.path("config"));
        openssl.arg("-keyout").arg(self.path(&format!("{kind}.key")));
        openssl.arg("-out").arg(self.path(&format!("{kind}.crt")));
        let output = openssl.output().expect("install Debian's package openssl");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

const CONFIG: &str = "
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost
";
