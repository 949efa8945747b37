//! Order numbers: `ORD-20261123-7K3M9Q`, the day and six characters that nobody can confuse.

use chrono::{DateTime, Utc};

/// Crockford's base 32: no I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Draws a number for that day; a thousand million are possible, so draw again on a collision.
pub(super) fn draw(day: DateTime<Utc>) -> String {
    let random: u32 = rand::random();
    let characters: String =
        (0..6).map(|place| char::from(ALPHABET[(random >> (place * 5)) as usize & 31])).collect();
    format!("ORD-{}-{characters}", day.format("%Y%m%d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_number_is_the_day_and_six_unmistakable_characters() {
        let number = draw(DateTime::UNIX_EPOCH);
        let drawn = number.strip_prefix("ORD-19700101-").expect("it begins with the day");
        assert_eq!(drawn.len(), 6);
        assert!(drawn.bytes().all(|character| ALPHABET.contains(&character)));
        assert_ne!(draw(DateTime::UNIX_EPOCH), draw(DateTime::UNIX_EPOCH));
    }
}
