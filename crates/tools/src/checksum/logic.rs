//! The checksums themselves: bytes in, digests out.
//!
//! Nothing here knows about requests or pages; that is `mod.rs`.

use std::fmt::Write;
use std::str::FromStr;

use md5::Md5;
use sha1::Sha1;
use sha2::digest::Digest as _;
use sha2::{Sha256, Sha512};

/// Bytes of a chunk that all algorithms process before the next ones: small enough to stay in the processor's
/// first-level cache (32 KiB on most).
const BYTES_A_ROUND: usize = 16 * 1024;

/// A digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
    Blake3,
}

impl Algorithm {
    /// All of them, in the order of the pages.
    pub(crate) const ALL: [Algorithm; 5] =
        [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3];

    /// Returns the name in URLs, JSON and plain text.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
            Algorithm::Blake3 => "blake3",
        }
    }

    /// Returns the name that people read.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha1 => "SHA-1",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512 => "SHA-512",
            Algorithm::Blake3 => "BLAKE3",
        }
    }

    /// Returns how many hexadecimal digits a digest has.
    pub(crate) fn hex_length(self) -> usize {
        match self {
            Algorithm::Md5 => 32,
            Algorithm::Sha1 => 40,
            Algorithm::Sha256 | Algorithm::Blake3 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// Parses the name or the title, ignoring case.
impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        let is_meant = |algorithm: &Algorithm| {
            text.eq_ignore_ascii_case(algorithm.name())
                || text.eq_ignore_ascii_case(algorithm.title())
        };
        Algorithm::ALL.into_iter().find(is_meant).ok_or(UnknownAlgorithm)
    }
}

/// No algorithm has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownAlgorithm;

/// Computes digests of bytes that arrive in chunks.
pub(crate) struct Digester {
    hashers: Vec<Hasher>,
    bytes: u64,
}

impl Digester {
    /// A digester for these algorithms, which all see the bytes in one pass.
    pub(crate) fn new(algorithms: &[Algorithm]) -> Self {
        Digester { hashers: algorithms.iter().copied().map(Hasher::new).collect(), bytes: 0 }
    }

    /// Takes the next chunk.
    pub(crate) fn update(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        for round in chunk.chunks(BYTES_A_ROUND) {
            for hasher in &mut self.hashers {
                hasher.update(round);
            }
        }
    }

    /// Returns the digests of all chunks together.
    pub(crate) fn finish(self) -> Checksums {
        let digests = self.hashers.into_iter().map(Hasher::finish).collect();
        Checksums { bytes: self.bytes, digests }
    }
}

/// The digests of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checksums {
    /// The length of the input in bytes.
    pub(crate) bytes: u64,
    /// One for each algorithm that was asked for.
    pub(crate) digests: Vec<Digest>,
}

/// One digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) algorithm: Algorithm,
    /// In lower-case hexadecimal digits.
    pub(crate) hex: String,
}

impl Digest {
    /// Accepts a digest from outside if it looks like one.
    pub(crate) fn parse(algorithm: Algorithm, hex: &str) -> Option<Digest> {
        let looks_right =
            hex.len() == algorithm.hex_length() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        looks_right.then(|| Digest { algorithm, hex: hex.to_ascii_lowercase() })
    }
}

/// The result of comparing digests with the one a visitor expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// It matches this one.
    Match(Algorithm),
    /// It has the length of these but differs.
    Different(Vec<Algorithm>),
    /// It is not a digest.
    NotADigest,
}

/// Compares digests with what a visitor pasted: a digest in any case, or a line of a checksum file
/// (`DIGEST  NAME`, `sha256:DIGEST`, `SHA256 (NAME) = DIGEST`). `None` if nothing was pasted.
pub(crate) fn compare(digests: &[Digest], pasted: &str) -> Option<Comparison> {
    let pasted = pasted.trim();
    if pasted.is_empty() {
        return None;
    }
    let word = match pasted.rsplit_once(") = ") {
        Some((_, digest)) => digest,
        None => pasted.split_whitespace().next().unwrap_or(""),
    };
    let expected = word.rsplit_once(':').map_or(word, |(_, digest)| digest).trim();
    if let Some(digest) = digests.iter().find(|digest| digest.hex.eq_ignore_ascii_case(expected)) {
        return Some(Comparison::Match(digest.algorithm));
    }
    let candidates: Vec<_> = digests
        .iter()
        .map(|digest| digest.algorithm)
        .filter(|algorithm| Digest::parse(*algorithm, expected).is_some())
        .collect();
    if candidates.is_empty() {
        Some(Comparison::NotADigest)
    } else {
        Some(Comparison::Different(candidates))
    }
}

/// One running algorithm. The large states are boxed, so that the small ones stay small.
enum Hasher {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Box<Sha512>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Hasher::Md5(Md5::new()),
            Algorithm::Sha1 => Hasher::Sha1(Sha1::new()),
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Box::new(Sha512::new())),
            Algorithm::Blake3 => Hasher::Blake3(Box::new(blake3::Hasher::new())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Md5(hasher) => hasher.update(bytes),
            Hasher::Sha1(hasher) => hasher.update(bytes),
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
            Hasher::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(self) -> Digest {
        let (algorithm, hex) = match self {
            Hasher::Md5(hasher) => (Algorithm::Md5, hex(&hasher.finalize())),
            Hasher::Sha1(hasher) => (Algorithm::Sha1, hex(&hasher.finalize())),
            Hasher::Sha256(hasher) => (Algorithm::Sha256, hex(&hasher.finalize())),
            Hasher::Sha512(hasher) => (Algorithm::Sha512, hex(&hasher.finalize())),
            Hasher::Blake3(hasher) => (Algorithm::Blake3, hex(hasher.finalize().as_bytes())),
        };
        Digest { algorithm, hex }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
