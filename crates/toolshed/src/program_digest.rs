//! What tells one version of the program from another, on whichever machine: a digest of its file.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};

use ring::digest::{Context, SHA256};

/// How much is read and digested before others have a turn: less than a millisecond.
const CHUNK_BYTES: usize = 256 * 1024;

/// Returns the digest of the program that this process executes, even if its file was replaced meanwhile. It takes some
/// tens of milliseconds, with pauses for others on the loop.
///
/// # Errors
///
/// If it cannot be read, for example without /proc.
pub(crate) async fn of_this_process() -> io::Result<String> {
    digest(File::open("/proc/self/exe")?).await
}

async fn digest(mut file: impl Read) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => context.update(&chunk[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        event_loop::yield_now().await;
    }
    let mut text = String::new();
    for byte in context.finish().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_whole_file() {
        event_loop::run(async {
            let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
            assert_eq!(digest(&b""[..]).await.unwrap(), empty);
            let long = vec![7; 2 * CHUNK_BYTES + 1];
            let of_all = ring::digest::digest(&SHA256, &long);
            let of_all: String = of_all.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest(&*long).await.unwrap(), of_all);
            assert_ne!(digest(&long[1..]).await.unwrap(), of_all);
            let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
            assert_eq!(of_this_process().await.unwrap(), digest(&*own).await.unwrap());
        })
        .unwrap();
    }
}
