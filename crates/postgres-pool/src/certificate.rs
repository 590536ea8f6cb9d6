//! The hash of a certificate that binds a login (SCRAM) to the TLS connection it is on: `tls-server-end-point`,
//! RFC 5929 §4.1.
//!
//! It takes the hash function of the certificate's own signature, so its name has to be found in the certificate; that
//! is all that is parsed here.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

/// Returns the hash of a certificate (DER). `None` if its signature's hash function is not known or not defined, as
/// with Ed25519: there is no channel binding then.
pub(crate) fn hash_for_channel_binding(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, algorithm) =
        HASHES.iter().find(|(oid, _)| Some(*oid) == signature_algorithm(certificate))?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

/// Object identifiers of signatures (DER), and the hash to use. MD5 and SHA-1 are replaced by SHA-256.
const HASHES: &[(&[u8], &Algorithm)] = &[
    // md5WithRSAEncryption, sha1WithRSAEncryption, sha256WithRSAEncryption, …: 1.2.840.113549.1.1
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", &SHA384),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", &SHA512),
    // ecdsa-with-SHA1: 1.2.840.10045.4.1; ecdsa-with-SHA256, …: 1.2.840.10045.4.3
    (b"\x2a\x86\x48\xce\x3d\x04\x01", &SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", &SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", &SHA384),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", &SHA512),
];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }`
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (_to_be_signed, rest) = element(certificate, SEQUENCE)?;
    let (algorithm, _signature) = element(rest, SEQUENCE)?;
    let (oid, _parameters) = element(algorithm, OBJECT_IDENTIFIER)?;
    Some(oid)
}

/// Splits an element with this tag off: its content, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[actual_tag, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (digits.iter().fold(0, |value, &digit| value << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    if actual_tag == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let oid = |oid: &[u8]| [&[OBJECT_IDENTIFIER, oid.len() as u8], oid].concat();
        let sequence = |parts: &[&[u8]]| {
            let content = parts.concat();
            let length = (content.len() as u16).to_be_bytes();
            [&[SEQUENCE, 0x82], &length[..], &content].concat()
        };
        let certificate = |signature: &[u8]| {
            let to_be_signed = sequence(&[&[0; 300]]);
            let algorithm = sequence(&[&oid(signature), &[5, 0]]);
            sequence(&[&to_be_signed, &algorithm, &[3, 1, 0]])
        };
        for (signature, bytes) in [
            (&b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"[..], Some(32)),
            (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", Some(48)),
            (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", Some(64)),
            // Ed25519 has no hash of its own.
            (b"\x2b\x65\x70", None),
        ] {
            let certificate = certificate(signature);
            let hash = hash_for_channel_binding(&certificate);
            assert_eq!(hash.map(|hash| hash.len()), bytes, "{signature:x?}");
            // Wherever it is cut off, it is no certificate, and no panic.
            for end in 0..320 {
                assert_eq!(hash_for_channel_binding(&certificate[..end]), None, "{end}");
            }
        }
    }
}
