//! One declaration says everything about a refusal.

use super::{Declared, Declares as _, Field, Kind, Refusal as _, Refused, Surprise};
use crate::text::{BadField, BadText};

refusals! {
    /// Why a parcel is not sent.
    #[derive(Debug, PartialEq, Eq, thiserror::Error)]
    enum ParcelRefusal {
        /// It is too heavy.
        #[error("{grams} g are too heavy")]
        TooHeavy {
            /// Its weight.
            grams: u32,
        } => Unprocessable "too_heavy" at "/weight",
        /// Some of its contents may not be sent.
        #[error("{} things may not be sent", .0.len())]
        Forbidden(Vec<&'static str>) => Conflict "not_sendable" with each,
        /// The label is not readable.
        #[error(transparent)]
        Label(BadText) => Unprocessable "invalid_label",
        /// A field is missing.
        #[error(transparent)]
        InvalidField(#[from] BadField),
        /// The scales are broken.
        #[error("the scales are broken")]
        Scales,
    }
}

refusals! {
    /// Why a parcel is not on its way.
    enum SendError = Refused(ParcelRefusal) | Database(sqlx::Error);
}

fn each(things: &[&'static str]) -> Vec<Field> {
    things
        .iter()
        .map(|thing| Field { pointer: "/things".into(), detail: (*thing).into() })
        .collect()
}

#[test]
fn a_refusal_says_its_kind_its_code_its_sentence_and_the_wrong_place() {
    let heavy = ParcelRefusal::TooHeavy { grams: 9 }.refused().expect("no surprise");
    let said = Refused::new(Kind::Unprocessable, "too_heavy", "9 g are too heavy").at("/weight");
    assert_eq!(heavy, said);
    let forbidden = ParcelRefusal::Forbidden(vec!["a cat"]).refused().expect("no surprise");
    assert_eq!((forbidden.code, forbidden.kind), ("not_sendable", Kind::Conflict));
    assert_eq!(forbidden.fields, [Field { pointer: "/things".into(), detail: "a cat".into() }]);
    let label = ParcelRefusal::Label(BadText::Missing).refused().expect("no surprise");
    assert_eq!((label.code, &*label.detail), ("invalid_label", "must not be empty"));
}

#[test]
fn a_payload_without_a_code_is_told_by_its_own_declaration_and_a_surprise_is_not_told() {
    let bad = BadField { field: "street", problem: BadText::Missing };
    let said = Refused::new(Kind::Unprocessable, "missing_field", "street must not be empty");
    let told = ParcelRefusal::from(bad).refused().expect("no surprise");
    assert_eq!(told, said.at("/street"));
    let broken = ParcelRefusal::Scales.refused().expect_err("a surprise");
    assert!(matches!(broken, Surprise::Broken(why) if why == "the scales are broken"));
}

#[test]
fn the_declaration_lists_every_code_once_with_its_sentence() {
    let declared = ParcelRefusal::declared();
    let codes: Vec<_> = declared.iter().map(|declared| declared.code).collect();
    let of_texts = ["missing_field", "too_long", "invalid_character", "card_number_not_accepted"];
    assert_eq!(codes[..3], ["too_heavy", "not_sendable", "invalid_label"]);
    assert_eq!(codes[3..], of_texts);
    let heavy = Declared {
        kind: Kind::Unprocessable,
        code: "too_heavy",
        pointer: Some("/weight"),
        sentence: "{grams} g are too heavy",
    };
    assert_eq!(declared[0], heavy);
    assert_eq!(declared[2].sentence.trim(), "The label is not readable.");
}

#[test]
fn an_enum_that_only_passes_on_declares_and_refuses_what_its_payloads_do() {
    assert_eq!(SendError::declared(), ParcelRefusal::declared());
    let heavy = || ParcelRefusal::TooHeavy { grams: 9 };
    let (own, passed_on) = (heavy().refused(), SendError::from(heavy()).refused());
    assert_eq!(passed_on.expect("no surprise"), own.expect("no surprise"));
    let surprise = SendError::from(sqlx::Error::PoolClosed).refused().expect_err("a surprise");
    assert!(matches!(surprise, Surprise::Database(sqlx::Error::PoolClosed)));
}
