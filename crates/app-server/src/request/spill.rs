//! Body bytes that wait on disk: a first-in-first-out queue in an unlinked temporary file.
//!
//! Used on connections that carry several requests at once, where not reading would delay the others and
//! memory is bounded. Small local file writes are the event loop's documented exception.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

/// The maximum number of bytes returned by one read: as many as a socket read takes.
const PIECE_BYTES: usize = 64 * 1024;

/// The queue. Its file is unlinked, so it disappears with the process in any case.
#[derive(Debug)]
pub(crate) struct Spill {
    file: File,
    /// 0 <= taken <= written.
    taken: u64,
    written: u64,
}

impl Spill {
    /// Creates an empty queue in the folder for temporary files (`TMPDIR`).
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Spill { file: tempfile::tempfile()?, taken: 0, written: 0 })
    }

    /// Bytes waiting.
    pub(crate) fn len(&self) -> u64 {
        self.written - self.taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends at the end.
    pub(crate) fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.written)?;
        self.written += data.len() as u64;
        Ok(())
    }

    /// Takes a chunk from the front; `None` when the queue is empty.
    pub(crate) fn pop(&mut self) -> io::Result<Option<Bytes>> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut piece = vec![0; self.len().min(PIECE_BYTES as u64) as usize];
        self.file.read_exact_at(&mut piece, self.taken)?;
        self.taken += piece.len() as u64;
        if self.is_empty() {
            self.file.set_len(0)?;
            (self.taken, self.written) = (0, 0);
        }
        Ok(Some(piece.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out() {
        let mut spill = Spill::new().unwrap();
        assert_eq!(spill.pop().unwrap(), None);
        for round in 0..3u8 {
            let long = vec![round; PIECE_BYTES + 5];
            spill.push(b"abc").unwrap();
            spill.push(&long).unwrap();
            assert_eq!(spill.len(), PIECE_BYTES as u64 + 8);
            let mut all = Vec::new();
            while let Some(piece) = spill.pop().unwrap() {
                all.extend_from_slice(&piece);
            }
            assert!(all.starts_with(b"abc") && all[3..] == long[..]);
        }
        assert_eq!(spill.file.metadata().unwrap().len(), 0, "space is released");
    }
}
