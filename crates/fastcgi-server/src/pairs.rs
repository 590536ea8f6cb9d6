//! Name-value pairs on the wire: their lengths, reading one, writing one (FastCGI 1.0 §3.4).
//!
//! Works on a whole block of bytes: pairs may be split anywhere between records and reads, so
//! `connection.rs` first gathers the block. `params.rs` owns the block and looks up names.

/// The longest name or value that can be encoded: lengths have 31 bits (§3.4).
pub(crate) const MAX_PART: usize = 0x7fff_ffff;

// A length from the wire is never truncated, and never added to another: each is compared with what is
// left.
const _: () = assert!(usize::BITS >= 32);

/// Takes the first pair off a block; `None` if the block is empty or its first pair extends beyond its
/// end.
#[inline]
pub(crate) fn split_pair(block: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_length, rest) = split_length(block)?;
    let (value_length, rest) = split_length(rest)?;
    let (name, rest) = rest.split_at_checked(name_length)?;
    let (value, rest) = rest.split_at_checked(value_length)?;
    Some((name, value, rest))
}

/// Takes a length off a block: one byte up to 127, otherwise four with the highest bit set (§3.4). A
/// short length may also be encoded in four bytes.
#[inline]
fn split_length(block: &[u8]) -> Option<(usize, &[u8])> {
    match *block {
        [short, ref rest @ ..] if short < 0x80 => Some((usize::from(short), rest)),
        [a, b, c, d, ref rest @ ..] => {
            Some((u32::from_be_bytes([a & 0x7f, b, c, d]) as usize, rest))
        }
        _ => None,
    }
}

/// Checks that a block consists of complete pairs; otherwise returns the offset of the first incomplete
/// one.
pub(crate) fn check(block: &[u8]) -> Result<(), usize> {
    let mut rest = block;
    while !rest.is_empty() {
        match split_pair(rest) {
            Some((_, _, after)) => rest = after,
            None => return Err(block.len() - rest.len()),
        }
    }
    Ok(())
}

/// Returns the encoded length of a pair; saturates on 32-bit machines.
pub(crate) fn encoded_length(name: &[u8], value: &[u8]) -> usize {
    let length_of_length = |length: usize| if length < 0x80 { 1 } else { 4 };
    let lengths = length_of_length(name.len()) + length_of_length(value.len());
    name.len().saturating_add(value.len()).saturating_add(lengths)
}

/// Writes a pair, passing its pieces to `put` in order. Writes nothing if the name or the value has more
/// than 2³¹ − 1 bytes, which FastCGI cannot encode.
pub(crate) fn encode(name: &[u8], value: &[u8], mut put: impl FnMut(&[u8])) {
    if name.len() > MAX_PART || value.len() > MAX_PART {
        return;
    }
    for length in [name.len(), value.len()] {
        if length < 0x80 {
            put(&[length as u8]);
        } else {
            put(&(length as u32 | 0x8000_0000).to_be_bytes());
        }
    }
    put(name);
    put(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut block = Vec::new();
        encode(name, value, |piece| block.extend_from_slice(piece));
        block
    }

    #[test]
    fn the_shortest_form_is_written() {
        assert_eq!(encoded(b"", b""), [0, 0]);
        assert_eq!(encoded(b"A", b"bc"), [1, 2, b'A', b'b', b'c']);
        let long = [b'x'; 128];
        let block = encoded(b"A", &long);
        assert_eq!(block[..6], [1, 0x80, 0, 0, 128, b'A']);
        assert_eq!(encoded(&long[..127], b"")[..2], [127, 0]);
    }

    #[test]
    fn lengths_round_trip_around_every_boundary() {
        for name_length in [0, 1, 126, 127, 128, 129, 255, 256, 65_535, 65_536, 70_000] {
            for value_length in [0, 1, 127, 128, 65_536] {
                let (name, value) = (vec![b'n'; name_length], vec![b'v'; value_length]);
                let block = encoded(&name, &value);
                assert_eq!(block.len(), encoded_length(&name, &value));
                assert_eq!(split_pair(&block), Some((&name[..], &value[..], &b""[..])));
                assert_eq!(check(&block), Ok(()));
                for cut in 1..block.len().min(20) {
                    assert_eq!(check(&block[..block.len() - cut]), Err(0), "{cut} bytes short");
                }
            }
        }
    }

    #[test]
    fn accepts_a_short_length_in_four_bytes() {
        let block = [0x80, 0, 0, 1, 0x80, 0, 0, 0, b'A'];
        assert_eq!(split_pair(&block), Some((&b"A"[..], &b""[..], &b""[..])));
    }

    /// The memory is never touched, so the system never allocates it.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn parts_of_31_bits_are_written_and_longer_ones_left_out() {
        let longest = vec![0; MAX_PART + 1];
        let head_and_length = |name: &[u8], value: &[u8]| {
            let (mut head, mut length) = (Vec::new(), 0);
            encode(name, value, |piece| {
                length += piece.len();
                if head.len() < 8 {
                    head.extend_from_slice(&piece[..piece.len().min(4)]);
                }
            });
            (head, length)
        };
        let (head, length) = head_and_length(b"A", &longest[1..]);
        assert_eq!(head[..6], [1, 0xff, 0xff, 0xff, 0xff, b'A']);
        assert_eq!(length, encoded_length(b"A", &longest[1..]));
        assert_eq!(head_and_length(&longest, b"").1, 0);
        assert_eq!(head_and_length(b"", &longest).1, 0);
        assert_eq!(encoded_length(&longest[1..], &longest[1..]), 2 * MAX_PART + 8);
    }

    #[test]
    fn impossible_lengths_are_reported_at_their_offset() {
        let mut block = encoded(b"A", b"b");
        block.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, b'x']);
        assert_eq!(check(&block), Err(4));
        assert_eq!(check(&[0x80]), Err(0));
        assert_eq!(check(&[1]), Err(0));
    }
}
