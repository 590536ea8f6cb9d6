//! Certificates for a test, made by the program openssl. Nothing of this ships.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A certificate authority that exists for one test.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    /// Creates an authority with a new key.
    #[expect(clippy::new_without_default, reason = "each one is different")]
    pub fn new() -> Authority {
        let authority = Authority { folder: tempfile::tempdir().unwrap() };
        fs::write(authority.path("config"), CONFIG).unwrap();
        // Two of one name are not told apart by it.
        let name = authority.folder.path().file_name().unwrap().to_str().unwrap();
        authority.openssl("ca", name, &[]);
        authority
    }

    /// Returns the file with its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// Returns a certificate for the server of this name, and its key (PEM).
    pub fn issue(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let (certificate, key) = (self.path("ca.crt"), self.path("ca.key"));
        self.openssl("server", name, &[Path::new("-CA"), &certificate, Path::new("-CAkey"), &key]);
        (fs::read(self.path("server.crt")).unwrap(), fs::read(self.path("server.key")).unwrap())
    }

    /// Makes a key and a certificate of this kind, which is a section of the configuration.
    fn openssl(&self, kind: &str, name: &str, signer: &[&Path]) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-days", "2", "-nodes", "-newkey", "ec"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        openssl.args(["-subj", &format!("/CN={name}"), "-extensions", kind]).args(signer);
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
