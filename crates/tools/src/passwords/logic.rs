//! The passwords themselves: options and random bytes in, passwords and their entropy out.
//!
//! Nothing here knows about requests or pages; that is `mod.rs`. `random.rs` chooses without bias.

use std::sync::LazyLock;

use super::random::{Dice, NoRandomness};

/// The words of passphrases, one per line, in alphabetical order.
///
/// Written for this project: everyday English words of three to eight letters, one spelling of each and none that
/// offends. Not taken from another list; it has the license of the project.
const WORDS: &str = include_str!("words.txt");

/// Returns the words of passphrases.
pub(crate) fn words() -> &'static [&'static str] {
    static LIST: LazyLock<Vec<&str>> = LazyLock::new(|| WORDS.lines().collect());
    &LIST
}

/// Words in a passphrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passphrase {
    pub(crate) words: usize,
    pub(crate) separator: Separator,
    /// Each word starts with a capital letter, which does not make it harder to guess.
    pub(crate) capitals: bool,
    /// One of the words, chosen at random, is followed by a digit.
    pub(crate) digit: bool,
}

/// The separator between words. There always is one: without it different words could make the same passphrase, and
/// the entropy shown would be too high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Separator {
    Hyphen,
    Space,
    Dot,
    Underscore,
}

impl Separator {
    /// All of them, in the order of the page.
    pub(crate) const ALL: [Separator; 4] =
        [Separator::Hyphen, Separator::Space, Separator::Dot, Separator::Underscore];

    /// Returns the name in URLs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Separator::Hyphen => "hyphen",
            Separator::Space => "space",
            Separator::Dot => "dot",
            Separator::Underscore => "underscore",
        }
    }

    /// Returns the character itself.
    pub(crate) fn character(self) -> char {
        match self {
            Separator::Hyphen => '-',
            Separator::Space => ' ',
            Separator::Dot => '.',
            Separator::Underscore => '_',
        }
    }
}

impl Passphrase {
    /// Makes one.
    pub(crate) fn make(&self, words: &[&str], dice: &mut Dice) -> Result<String, NoRandomness> {
        let with_digit = match u16::try_from(self.words) {
            Ok(sides) if self.digit => Some((dice.roll(sides)?, dice.roll(10)?)),
            _ => None,
        };
        let mut passphrase = String::new();
        for position in 0..self.words {
            let word = dice.pick(words)?.copied().unwrap_or_default();
            if position > 0 {
                passphrase.push(self.separator.character());
            }
            match word.split_at_checked(1) {
                Some((first, rest)) if self.capitals => {
                    passphrase += &first.to_ascii_uppercase();
                    passphrase += rest;
                }
                _ => passphrase += word,
            }
            if let Some((_, digit)) = with_digit.filter(|(at, _)| *at == position) {
                passphrase += &digit.to_string();
            }
        }
        Ok(passphrase)
    }

    /// Returns the entropy in bits: the logarithm of the number of possible passphrases, which are equally likely.
    pub(crate) fn entropy(&self, words: &[&str]) -> f64 {
        let digit = if self.digit { ((self.words * 10) as f64).log2() } else { 0.0 };
        self.words as f64 * (words.len() as f64).log2() + digit
    }
}

/// A password of random characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Characters {
    pub(crate) length: usize,
    /// The classes it is made of; there is at least one character of each.
    pub(crate) classes: Vec<Class>,
    /// Whether look-alike characters are excluded.
    pub(crate) without_lookalikes: bool,
}

/// A class of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Lower,
    Upper,
    Digits,
    Symbols,
}

impl Class {
    /// All of them, in the order of the page.
    pub(crate) const ALL: [Class; 4] = [Class::Lower, Class::Upper, Class::Digits, Class::Symbols];

    /// Returns the name in URLs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::Lower => "lower",
            Class::Upper => "upper",
            Class::Digits => "digits",
            Class::Symbols => "symbols",
        }
    }

    /// Returns its characters. Symbols that cause trouble in shells, markup and forms are left
    /// out: quotes, backslash, `<`, `>`, `$`, the backtick and the space.
    pub(crate) fn characters(self) -> &'static str {
        match self {
            Class::Lower => "abcdefghijklmnopqrstuvwxyz",
            Class::Upper => "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            Class::Digits => "0123456789",
            Class::Symbols => "!#%&()*+,-./:;=?@[]^_{|}~",
        }
    }
}

/// Characters that are mistaken for one another when a password is read from paper.
pub(crate) const LOOKALIKES: &str = "0O1Il|5S2Z8B";

impl Characters {
    /// Makes one. Passwords that lack a class are discarded: adding the missing character would make some passwords
    /// more likely than others.
    pub(crate) fn make(&self, dice: &mut Dice) -> Result<String, NoRandomness> {
        let alphabets = self.alphabets();
        let all = alphabets.concat();
        loop {
            let mut password = String::with_capacity(self.length);
            for _ in 0..self.length {
                password.extend(dice.pick(&all)?);
            }
            let has = |alphabet: &Vec<char>| alphabet.iter().any(|&known| password.contains(known));
            // The loop would never end for a password too short for all classes.
            if self.length < alphabets.len() || alphabets.iter().all(has) {
                return Ok(password);
            }
        }
    }

    /// Returns the entropy in bits: the logarithm of the number of possible passwords, which are equally likely. These
    /// are all of this length except those that lack a class, counted by inclusion and exclusion.
    pub(crate) fn entropy(&self) -> f64 {
        let sizes: Vec<_> = self.alphabets().iter().map(Vec::len).collect();
        let all: usize = sizes.iter().sum();
        if all == 0 || self.length < sizes.len() {
            return 0.0;
        }
        let mut share = 0.0;
        for left_out in 0..1_u32 << sizes.len() {
            let is_left_out = |class: usize| left_out & (1 << class) != 0;
            let missing: usize = sizes
                .iter()
                .enumerate()
                .filter(|(class, _)| is_left_out(*class))
                .map(|(_, size)| size)
                .sum();
            let sign = if left_out.count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            share += sign * ((all - missing) as f64 / all as f64).powi(self.length as i32);
        }
        self.length as f64 * (all as f64).log2() + share.log2()
    }

    fn alphabets(&self) -> Vec<Vec<char>> {
        let is_used =
            |character: &char| !(self.without_lookalikes && LOOKALIKES.contains(*character));
        self.classes
            .iter()
            .map(|class| class.characters().chars().filter(is_used).collect())
            .collect()
    }
}

/// Describes how long guessing takes at 10¹² guesses per second: a rack of graphics cards against a stolen list
/// of fast hashes. Against a login page it is far longer. On average half of all have to be tried.
pub(crate) fn time_to_guess(entropy: f64) -> String {
    const UNITS: [(f64, &str); 6] = [
        (60.0, "seconds"),
        (60.0, "minutes"),
        (24.0, "hours"),
        (365.25, "days"),
        (1000.0, "years"),
        (1000.0, "thousand years"),
    ];
    let mut time = (entropy - 1.0).exp2() / 1e12;
    if time < 1.0 {
        return "less than a second".to_owned();
    }
    for (size, unit) in UNITS {
        if time < size {
            let number = time.floor();
            let is_one = number < 2.0 && !unit.contains(' ');
            let unit = if is_one { unit.trim_end_matches('s') } else { unit };
            return format!("{number} {unit}");
        }
        time /= size;
    }
    if time < 13_800.0 {
        "millions of years".to_owned()
    } else {
        "longer than the universe is old".to_owned()
    }
}

/// Describes an entropy in a word or two.
pub(crate) fn strength(entropy: f64) -> &'static str {
    match entropy {
        ..40.0 => "weak",
        ..60.0 => "fair",
        ..80.0 => "strong",
        _ => "very strong",
    }
}
