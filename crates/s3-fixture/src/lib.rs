//! An S3 server of its own for a test: Garage, in a folder of its own, on free ports of 127.0.0.1, ended and removed by
//! its drop.
//!
//! A server takes a third of a second. `tests/run` installs the program below the target folder. It is killed when **the
//! thread that started it** exits, so that a test that is killed leaves none. Nothing of this ships.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use free_port::FreePort;
use tempfile::TempDir;

/// The access key of the one account.
pub const ACCESS_KEY: &str = "GK0123456789abcdef01234567";

/// Its secret key.
pub const SECRET_KEY: &str = "5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4";

/// The one bucket.
pub const BUCKET: &str = "tests";

/// The region.
pub const REGION: &str = "garage";

/// How long the server may take to start on a machine that is busy.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Child,
    folder: TempDir,
    port: FreePort,
}

impl Server {
    /// Starts a server with an empty bucket, and waits until it is ready.
    pub fn start() -> Server {
        let folder = tempfile::Builder::new().prefix("garage-").tempdir().unwrap();
        let [port, rpc_port] = [0; 2].map(|_| FreePort::reserve().unwrap());
        let configuration = format!(
            "metadata_dir = {path:?}
             data_dir = {path:?}
             db_engine = \"sqlite\"
             replication_factor = 1
             metadata_fsync = false
             rpc_bind_addr = \"127.0.0.1:{rpc_port}\"
             rpc_public_addr = \"127.0.0.1:{rpc_port}\"
             rpc_secret = \"{SECRET_KEY}\"
             [s3_api]
             s3_region = \"{REGION}\"
             api_bind_addr = \"127.0.0.1:{port}\"
             root_domain = \".localhost\"
            ",
            path = folder.path(),
            port = port.number(),
            rpc_port = rpc_port.number(),
        );
        let file = folder.path().join("garage.toml");
        let mut options = fs::OpenOptions::new();
        // It refuses a secret that others can read.
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&file);
        std::io::Write::write_all(&mut opened.unwrap(), configuration.as_bytes()).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program()).arg("-c").arg(file);
        command.args(["server", "--single-node", "--default-bucket"]);
        command.env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY);
        command.env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY).env("GARAGE_DEFAULT_BUCKET", BUCKET);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().unwrap();
        let mut server = Server { process, folder, port };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&mut self) {
        let start = Instant::now();
        while TcpStream::connect(self.port.address()).is_err() {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "Garage does not start: {}", self.log());
            assert!(start.elapsed() < START_TIMEOUT, "Garage is not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns its address.
    pub fn endpoint(&self) -> String {
        format!("http://localhost:{}", self.port())
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns Garage's program, which is below the same target folder as the test.
///
/// # Panics
///
/// If it is not there.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let mut programs = test.ancestors().map(|folder| folder.join("garage/bin/garage"));
    programs.find(|program| program.exists()).expect("tests/run installs Garage; it is missing")
}
