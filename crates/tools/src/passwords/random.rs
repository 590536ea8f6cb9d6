//! Unbiased choice, from the system's random bytes.
//!
//! What is chosen from is in `logic.rs`.

use std::collections::VecDeque;
use std::fmt;

/// Unpredictable bytes; in tests, known ones.
pub(crate) type Source = fn(&mut [u8]) -> Result<(), NoRandomness>;

/// Fills a buffer from the system's random source (`getrandom`, and `/dev/urandom` on kernels before it).
pub(crate) fn system(buffer: &mut [u8]) -> Result<(), NoRandomness> {
    getrandom::fill(buffer).map_err(|error| NoRandomness(error.to_string()))
}

/// The system provided no random bytes; why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoRandomness(pub(crate) String);

impl fmt::Display for NoRandomness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the system provides no random bytes: {}", self.0)
    }
}

/// Chooses without bias.
pub(crate) struct Dice {
    source: Source,
    bytes: VecDeque<u8>,
}

/// Random bytes requested at once: as many as the system call returns without interruption.
const BYTES_AT_ONCE: usize = 256;

impl Dice {
    pub(crate) fn new(source: Source) -> Self {
        Dice { source, bytes: VecDeque::new() }
    }

    /// Returns a number below `sides`, each with the same chance.
    ///
    /// The remainder of a random number would favor small ones, since 65,536 is not a multiple of most numbers. What
    /// is above the last multiple is discarded.
    pub(crate) fn roll(&mut self, sides: u16) -> Result<usize, NoRandomness> {
        loop {
            let number = u16::from_be_bytes([self.byte()?, self.byte()?]);
            if let Some(fair) = fair(number, sides) {
                return Ok(fair);
            }
        }
    }

    /// Returns one of these, each with equal probability; `None` if there are none, or more than 65,535.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> Result<Option<&'a T>, NoRandomness> {
        match u16::try_from(choices.len()) {
            Ok(0) | Err(_) => Ok(None),
            Ok(sides) => Ok(choices.get(self.roll(sides)?)),
        }
    }

    fn byte(&mut self) -> Result<u8, NoRandomness> {
        if let Some(byte) = self.bytes.pop_front() {
            return Ok(byte);
        }
        let mut fresh = [0; BYTES_AT_ONCE];
        (self.source)(&mut fresh)?;
        self.bytes.extend(fresh);
        self.byte()
    }
}

/// Turns 16 bits into a number below `sides`, or nothing if that would be biased.
pub(crate) fn fair(number: u16, sides: u16) -> Option<usize> {
    let (number, sides) = (u32::from(number), u32::from(sides.max(1)));
    let fair_numbers = 65_536 - 65_536 % sides;
    (number < fair_numbers).then_some((number % sides) as usize)
}
