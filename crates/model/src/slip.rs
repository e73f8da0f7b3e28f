//! The slip (nomor resi): the short number a citizen takes home.
//!
//! Twelve symbols, written in three groups of four: `SKJ0-4000-1A7K`. The symbols are Crockford's base 32 (digits
//! and letters without I, L, O, U; when read, `O` counts as `0` and `I`, `L` as `1`, so the look-alikes cannot be
//! confused). Three symbols are the node's short code, seven are 35 bits of number (10 of epoch, 25 of sequence),
//! two are check symbols.
//!
//! The check is a shortened Reed–Solomon code over GF(32) with generator (x − α)(x − α²). Its distance is 3: every
//! one or two wrong symbols are found, and with them every swap of any two.

use std::fmt;
use std::str::FromStr;

use crate::name::ShortCode;
use crate::record::{Epoch, Seq};

/// The alphabet, in order of value.
pub(crate) const SYMBOLS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const LENGTH: usize = 12;
const SEQ_BITS: u32 = 25;

/// The text is no slip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlipError {
    /// Not twelve letters and digits.
    #[error("a slip has twelve letters and digits, such as SKJ0-4000-1A7K, and U is none of them")]
    Shape,
    /// The check symbols do not fit: something was mistyped.
    #[error("the slip has a typing mistake: compare it with the paper, letter by letter")]
    Check,
}

/// The number on a citizen's paper. It names one record of one origin and holds no personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slip {
    /// The office that gave it.
    pub code: ShortCode,
    /// The incarnation of that office's spool.
    pub epoch: Epoch,
    /// The record's number there.
    pub seq: Seq,
}

impl Slip {
    fn symbols(self) -> [u8; LENGTH] {
        let mut symbols = [0; LENGTH];
        symbols[..3].copy_from_slice(&self.code.symbols());
        let number = (u64::from(self.epoch.get()) << SEQ_BITS) | u64::from(self.seq.get());
        for (index, symbol) in symbols[3..10].iter_mut().enumerate() {
            *symbol = u8::try_from((number >> (30 - 5 * index)) & 31).expect("five bits");
        }
        let check = remainder(&symbols[..10]);
        symbols[10..].copy_from_slice(&check);
        symbols
    }
}

impl FromStr for Slip {
    type Err = SlipError;

    /// Reads a slip as a person types it: any case, hyphens and spaces where they like between the groups.
    fn from_str(text: &str) -> Result<Self, SlipError> {
        let mut symbols = [0u8; LENGTH];
        let mut count = 0;
        for letter in text.trim().chars().filter(|letter| !matches!(letter, '-' | ' ')) {
            *symbols.get_mut(count).ok_or(SlipError::Shape)? = symbol_of(letter).ok_or(SlipError::Shape)?;
            count += 1;
        }
        if count != LENGTH {
            return Err(SlipError::Shape);
        }
        let (body, check) = symbols.split_at(LENGTH - 2);
        if remainder(body) != check {
            return Err(SlipError::Check);
        }
        let number = body[3..].iter().fold(0u64, |number, &symbol| (number << 5) | u64::from(symbol));
        let epoch = u16::try_from(number >> SEQ_BITS).ok().and_then(Epoch::new).ok_or(SlipError::Check)?;
        let seq = u32::try_from(number & ((1 << SEQ_BITS) - 1)).ok().and_then(Seq::new).ok_or(SlipError::Check)?;
        Ok(Self { code: ShortCode::from_symbols([body[0], body[1], body[2]]), epoch, seq })
    }
}

impl fmt::Display for Slip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, symbol) in self.symbols().into_iter().enumerate() {
            if index > 0 && index % 4 == 0 {
                formatter.write_str("-")?;
            }
            write!(formatter, "{}", letter_of(symbol))?;
        }
        Ok(())
    }
}

/// The value of a letter as people type it, or nothing if it is not in the alphabet.
pub(crate) fn symbol_of(letter: char) -> Option<u8> {
    let letter = match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    SYMBOLS.find(letter).and_then(|index| u8::try_from(index).ok())
}

pub(crate) fn letter_of(symbol: u8) -> char {
    char::from(SYMBOLS.as_bytes()[usize::from(symbol & 31)])
}

/// The two check symbols: the remainder of `message · x²` by (x − α)(x − α²) = x² + 6x + 8 over GF(32), with α = 2.
fn remainder(message: &[u8]) -> [u8; 2] {
    let mut high = 0;
    let mut low = 0;
    for &symbol in message {
        let feedback = symbol ^ high;
        high = low ^ multiply(feedback, 6);
        low = multiply(feedback, 8);
    }
    [high, low]
}

/// Multiplication in GF(32) with the primitive polynomial x⁵ + x² + 1.
fn multiply(mut left: u8, mut right: u8) -> u8 {
    let mut product = 0;
    while right > 0 {
        if right & 1 == 1 {
            product ^= left;
        }
        left <<= 1;
        if left & 32 != 0 {
            left ^= 0b10_0101;
        }
        right >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slip(code: &str, epoch: u16, seq: u32) -> Slip {
        Slip { code: code.parse().unwrap(), epoch: Epoch::new(epoch).unwrap(), seq: Seq::new(seq).unwrap() }
    }

    fn samples() -> Vec<Slip> {
        vec![slip("SKJ", 1, 1), slip("RBP", 513, 42), slip("ZZZ", 1023, Seq::MAX.get()), slip("000", 7, 31_999_999)]
    }

    #[test]
    fn reads_back_in_any_clothing() {
        for slip in samples() {
            let text = slip.to_string();
            assert_eq!(text.len(), 14);
            assert_eq!(text.parse(), Ok(slip));
            assert_eq!(text.to_lowercase().replace('-', " ").parse(), Ok(slip));
            assert_eq!(text.replace('0', "o").replace('1', "l").parse(), Ok(slip));
        }
    }

    #[test]
    fn every_single_wrong_character_is_found() {
        for slip in samples() {
            let text = slip.to_string();
            for position in 0..text.len() {
                for wrong in (' '..='~').filter(|wrong| !text[position..].starts_with(*wrong)) {
                    let mut mistyped = text.clone();
                    mistyped.replace_range(position..=position, &wrong.to_string());
                    // A look-alike or another case is not a mistake: it reads as what was meant.
                    if let Ok(read) = mistyped.parse::<Slip>() {
                        assert_eq!(read, slip, "{mistyped} was taken for another slip than {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_swap_of_two_characters_is_found() {
        for slip in samples() {
            let letters: Vec<char> = slip.to_string().chars().filter(|letter| *letter != '-').collect();
            for first in 0..letters.len() {
                for second in first + 1..letters.len() {
                    let mut swapped = letters.clone();
                    swapped.swap(first, second);
                    if swapped != letters {
                        let text: String = swapped.iter().collect();
                        assert_eq!(text.parse::<Slip>(), Err(SlipError::Check), "{text}");
                    }
                }
            }
        }
    }
}
