//! Text from outside, made fit for the database, for one line of a log and for a screen.
//!
//! Normalised to NFC and trimmed. Refused: control characters (a NUL breaks Postgres, a line feed
//! a log), marks that turn the direction of writing, and anything that looks like a card number,
//! which must never be stored, wherever it was typed.

mod card_number;

use unicode_normalization::UnicodeNormalization;

pub use card_number::has_card_number;

use crate::refusal::{Declared, Declares, Refusal, Refused, Surprise, refusals};

refusals! {
    /// Why a text was refused. Never holds the text.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    pub enum BadText {
        /// Nothing that can be seen.
        #[error("must not be empty")]
        Missing => Unprocessable "missing_field",
        /// More than this many characters.
        #[error("must have at most {0} characters")]
        TooLong(usize) => Unprocessable "too_long",
        /// A control character or a mark that turns the direction of writing.
        #[error("must not contain control characters")]
        ControlCharacter => Unprocessable "invalid_character",
        /// It contains a number that looks like a card number.
        #[error("must not contain a card number")]
        CardNumber => Unprocessable "card_number_not_accepted",
    }
}

/// A field of a command and what is wrong with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct BadField {
    /// The field's name in the catalogue, such as `firstName`.
    pub field: &'static str,
    /// The problem.
    pub problem: BadText,
}

impl Declares for BadField {
    fn declared() -> Vec<Declared> {
        BadText::declared()
    }
}

impl Refusal for BadField {
    fn refused(self) -> Result<Refused, Surprise> {
        let Refused { kind, code, .. } = self.problem.refused()?;
        Ok(Refused::new(kind, code, self.to_string()).at(format!("/{}", self.field)))
    }
}

/// One line of at least one and at most `most` characters.
pub fn line(raw: &str, most: usize) -> Result<String, BadText> {
    let text = optional_line(raw, most)?;
    if text.chars().all(is_invisible) { Err(BadText::Missing) } else { Ok(text) }
}

/// [`line()`] for the named field of a command.
pub fn field(field: &'static str, raw: &str, most: usize) -> Result<String, BadField> {
    line(raw, most).map_err(|problem| BadField { field, problem })
}

/// One line of at most `most` characters, which may be empty.
pub fn optional_line(raw: &str, most: usize) -> Result<String, BadText> {
    checked(raw, most, is_control)
}

/// Lines of at most `most` characters together, which may be empty.
pub fn paragraphs(raw: &str, most: usize) -> Result<String, BadText> {
    checked(&raw.replace("\r\n", "\n"), most, |c| c != '\n' && is_control(c))
}

fn checked(raw: &str, most: usize, is_bad: fn(char) -> bool) -> Result<String, BadText> {
    // Checked before normalising, so that a megabyte is refused without work.
    if raw.len() > most.saturating_mul(4) {
        return Err(BadText::TooLong(most));
    }
    let text: String = raw.trim().nfc().collect();
    if text.chars().count() > most {
        return Err(BadText::TooLong(most));
    }
    if text.chars().any(is_bad) {
        return Err(BadText::ControlCharacter);
    }
    if has_card_number(&text) {
        return Err(BadText::CardNumber);
    }
    Ok(text)
}

/// Characters without an image of their own, which may be part of a word (`Default_Ignorable_Code_Point` of Unicode), and blanks.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{AD}' | '\u{34F}' | '\u{2800}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}')
        || matches!(c, '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}')
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}')
        || matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{E0000}'..='\u{E0FFF}')
}

fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_databases_logs_and_screens_is_refused() {
        assert_eq!(line("a\u{0}b", 10), Err(BadText::ControlCharacter));
        assert_eq!(line("a\r\nb", 10), Err(BadText::ControlCharacter));
        assert_eq!(line("a\u{202E}b", 10), Err(BadText::ControlCharacter));
        assert_eq!(line(" \t ", 10), Err(BadText::Missing));
        for unseen in ["\u{200B}\u{2060}", "\u{FEFF}", "\u{3164} \u{AD}", "\u{200D}\u{FE0F}"] {
            assert_eq!(line(unseen, 10), Err(BadText::Missing), "{}", unseen.escape_unicode());
        }
        assert_eq!(line("\u{646}\u{200C}\u{647}", 10).as_deref(), Ok("\u{646}\u{200C}\u{647}"));
        assert_eq!(line(&"x".repeat(11), 10), Err(BadText::TooLong(10)));
        assert_eq!(line(&"x".repeat(1_000_000), 10), Err(BadText::TooLong(10)));
        assert_eq!(line("  Zoe\u{308} ", 10).as_deref(), Ok("Zo\u{eb}"));
    }

    #[test]
    fn a_card_number_is_refused_wherever_it_was_typed() {
        assert_eq!(line("4242 4242 4242 4242", 100), Err(BadText::CardNumber));
        assert_eq!(line("pay with 4242-4242-4242-4242 please", 100), Err(BadText::CardNumber));
        assert!(line("id 01a207eb-5147-767b-ab07-424242424242", 100).is_ok());
        assert!(line("id 42424242424242420000000000000000", 100).is_ok());
        assert!(line("4242 4242 4242 4243", 100).is_ok());
        assert!(line("call 555 0100 or 555 0199", 100).is_ok());
    }
}
