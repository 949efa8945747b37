//! Card numbers in free text: found, so that none is ever stored.
//!
//! A card number has 13 to 19 digits, begins as those of a card issuer do, has a length that this issuer uses, and passes the check of Luhn. Any
//! group of digits may be its beginning, and anything but a letter may separate the groups: spaces, dots, dashes, slashes. Digits of all
//! scripts count.
//!
//! Told apart by their shape: UUIDs, tracking numbers of UPS, phone numbers after a plus, barcodes (EAN-13), lists of rising numbers
//! (`sizes 36, 38, 40, ...`), and an IMEI, since only American Express (34, 37) has card numbers of 15 digits.
//!
//! Nothing can tell apart, so it is refused: other numbers that begin like a card's, have its length and by chance (one in ten) pass the check.
//! Such are some tracking numbers of 16 digits, IMEIs that begin with 34 or 37, and lists of numbers that do not rise. Accepted although it may be a
//! card: a number of up to 15 digits after a plus, a card of 13 digits that passes the check of barcodes as well (no issuer makes new ones), Maestro
//! cards of less than 16 digits, a number inside a longer row of digits, and one with letters between its groups.

use std::ops::RangeInclusive;

use unicode_normalization::UnicodeNormalization;

/// The most digits of a card number.
const MOST: usize = 19;
/// The most digits of a phone number, with the country's code (E.164).
const MOST_OF_PHONE: usize = 15;
/// The fewest numbers that are taken for a list if they rise and have equally many digits. Fewer of them may be a card number by chance.
const FEWEST_OF_LIST: usize = 6;

/// The first four digits of card numbers, and how many digits these have.
const ISSUERS: &[(RangeInclusive<u16>, &[usize])] = &[
    // Mir
    (2200..=2204, &[16, 17, 18, 19]),
    // Mastercard
    (2221..=2720, &[16]),
    (5100..=5599, &[16]),
    // Diners Club
    (3000..=3059, &[14, 16, 19]),
    (3095..=3095, &[14, 16, 19]),
    (3600..=3699, &[14, 16, 19]),
    (3800..=3999, &[14, 16, 19]),
    // American Express
    (3400..=3499, &[15]),
    (3700..=3799, &[15]),
    // JCB
    (3528..=3589, &[16, 17, 18, 19]),
    // Visa
    (4000..=4999, &[13, 16, 19]),
    // Maestro, Dankort, Elo, Verve
    (5000..=5099, &[16, 17, 18, 19]),
    (5600..=5899, &[16, 17, 18, 19]),
    // Discover, UnionPay, Maestro, RuPay, Hipercard
    (6000..=6999, &[16, 17, 18, 19]),
    // UnionPay and RuPay, Uzcard, Belkart, Troy, Humo
    (8100..=8299, &[16, 17, 18, 19]),
    (8600..=8600, &[16]),
    (9112..=9112, &[16]),
    (9792..=9792, &[16]),
    (9860..=9860, &[16]),
];

/// The zeros of all scripts that NFKC does not turn into ASCII digits. The other nine digits of a script follow its zero.
const ZEROS: &[u32] = &[
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66,
    0xDE6, 0xE50, 0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90,
    0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0,
    0x104A0, 0x10D30, 0x10D40, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0,
    0x11650, 0x116C0, 0x116D0, 0x116DA, 0x11730, 0x118E0, 0x11950, 0x11BF0, 0x11C50, 0x11D50,
    0x11DA0, 0x11F50, 0x16130, 0x16A60, 0x16AC0, 0x16B50, 0x16D70, 0x1E140, 0x1E2F0, 0x1E4F0,
    0x1E5F1, 0x1E950,
];

/// Whether the text holds what a card number looks like.
pub fn has_card_number(text: &str) -> bool {
    let text: String = text.nfkc().collect();
    let mut number = Number::default();
    for piece in text.split_inclusive(|c: char| !is_of_word(c)) {
        if is_identifier(piece.trim_end_matches(|c: char| !is_of_word(c))) {
            if number.take().holds_card() {
                return true;
            }
            continue;
        }
        for c in piece.chars() {
            let digit = digit_of(c);
            if (digit.is_none() && c.is_alphabetic() || c == '+') && number.take().holds_card() {
                return true;
            }
            number.read(c, digit);
        }
    }
    number.holds_card()
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '-'
}

/// Whether the word is a UUID, whose digits look like a card number's once in a few hundred, or a tracking number of UPS.
fn is_identifier(word: &str) -> bool {
    let is_of_ups = word.len() == 18
        && matches!(word.get(..2), Some("1Z" | "1z"))
        && word.bytes().all(|b| b.is_ascii_alphanumeric());
    is_of_ups || word.parse::<uuid::Uuid>().is_ok()
}

fn digit_of(c: char) -> Option<u8> {
    let zero = ZEROS.partition_point(|zero| *zero <= u32::from(c)).checked_sub(1)?;
    u8::try_from(u32::from(c) - ZEROS[zero]).ok().filter(|digit| *digit < 10)
}

/// Groups of digits with no letter between them.
#[derive(Debug, Default)]
struct Number {
    groups: Vec<Vec<u8>>,
    /// Whether the last character was a digit.
    in_group: bool,
    /// Whether a plus stands directly before the first digit.
    has_plus: bool,
}

impl Number {
    /// Leaves an empty number behind.
    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    fn read(&mut self, c: char, digit: Option<u8>) {
        match digit {
            Some(digit) if self.in_group => {
                self.groups.last_mut().expect("it is in one").push(digit)
            }
            Some(digit) => self.groups.push(vec![digit]),
            None if self.groups.is_empty() => self.has_plus = c == '+',
            None => {}
        }
        self.in_group = digit.is_some();
    }

    fn holds_card(&self) -> bool {
        let count: usize = self.groups.iter().map(Vec::len).sum();
        if self.has_plus && count <= MOST_OF_PHONE {
            return false;
        }
        (0..self.groups.len()).any(|start| begins_with_card(&self.groups[start..]))
    }
}

/// Whether some of the groups, from the first one on, are a card number together.
fn begins_with_card(groups: &[Vec<u8>]) -> bool {
    let mut digits = Vec::with_capacity(MOST);
    for (at, group) in groups.iter().enumerate() {
        if digits.len() + group.len() > MOST {
            return false;
        }
        digits.extend(group);
        if is_card_number(&digits) && !is_rising_list(&groups[..=at]) {
            return true;
        }
    }
    false
}

fn is_card_number(digits: &[u8]) -> bool {
    let Some(first) = digits.get(..4) else { return false };
    let first = first.iter().fold(0, |number, digit| number * 10 + u16::from(*digit));
    let is_issued = ISSUERS
        .iter()
        .any(|(firsts, lengths)| firsts.contains(&first) && lengths.contains(&digits.len()));
    is_issued && passes_luhn(digits) && !is_barcode(digits)
}

/// Whether this is a list such as that of sizes: at least [`FEWEST_OF_LIST`] numbers of equally many digits, each more than the one before.
fn is_rising_list(groups: &[Vec<u8>]) -> bool {
    groups.len() >= FEWEST_OF_LIST
        && groups.windows(2).all(|two| two[0].len() == two[1].len() && two[0] < two[1])
}

fn passes_luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let worth = digits.iter().rev().enumerate().map(|(place, digit)| match place % 2 {
        0 => u32::from(*digit),
        _ => u32::from(doubled(*digit)),
    });
    worth.sum::<u32>().is_multiple_of(10)
}

/// Whether these are the 13 digits of a barcode (EAN-13), by its own check digit.
fn is_barcode(digits: &[u8]) -> bool {
    let worth = digits.iter().enumerate().map(|(place, digit)| match place % 2 {
        0 => u32::from(*digit),
        _ => 3 * u32::from(*digit),
    });
    digits.len() == 13 && worth.sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests;
