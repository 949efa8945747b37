//! The gateway's book against ours, row for row.

use std::{collections::BTreeMap, path::Path};

use rust_decimal::Decimal;
use sqlx::PgPool;
use stepwise_adapters::sandbox::ledger::{self, Move};

/// The moves of money by `shop.payment_transaction`: all that did not fail. One that is still asked for has no key yet, and so no
/// counterpart in the gateway's book.
///
/// # Errors
/// The database's.
pub async fn booked(pool: &PgPool) -> Result<Vec<Move>, sqlx::Error> {
    type Row = (String, String, Option<String>, Option<String>, Decimal, String);
    let rows: Vec<Row> = sqlx::query_as(
        "select p.order_id::text, t.kind, t.key, t.reference, t.amount, t.currency
        from shop.payment_transaction t join shop.payment p using (payment_id) where t.state <> 'failed'",
    )
    .fetch_all(pool)
    .await?;
    let moves = rows.into_iter().map(|(order_id, kind, key, reference, amount, currency)| {
        let (key, reference) = (key.unwrap_or_default(), reference.unwrap_or_default());
        Move { order_id, kind, key, reference, amount, currency }
    });
    Ok(moves.collect())
}

/// What one of the two books has and the other has not, in words.
#[must_use]
pub fn differences(ours: &[Move], gateways: &[Move]) -> Vec<String> {
    let mut surplus: BTreeMap<&Move, i32> = BTreeMap::new();
    ours.iter().for_each(|row| *surplus.entry(row).or_insert(0) += 1);
    gateways.iter().for_each(|row| *surplus.entry(row).or_insert(0) -= 1);
    let differing = surplus.into_iter().filter(|(_, surplus)| *surplus != 0);
    differing
        .map(|(row, surplus)| {
            let whose = if surplus > 0 { "we booked" } else { "the gateway booked" };
            format!("only {whose} {row:?}")
        })
        .collect()
}

/// Compares the database with the ledger at `path`.
///
/// # Errors
/// What differs, or why it could not be told, in words.
pub async fn agrees(pool: &PgPool, path: &Path) -> Result<(), String> {
    let mut ours = booked(pool).await.map_err(|error| error.to_string())?;
    let gateways = ledger::moves(&ledger::read(path).map_err(|error| error.to_string())?);
    // What a customer approved was done by no request of ours: the gateway has no key for it, we have that of our question.
    let approved = |row: &Move| {
        let same =
            |theirs: &&Move| (&theirs.kind, &theirs.reference) == (&row.kind, &row.reference);
        gateways.iter().find(same).is_some_and(|theirs| theirs.key.is_empty())
    };
    ours.iter_mut().filter(|row| approved(row)).for_each(|row| row.key.clear());
    let differences = differences(&ours, &gateways);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str) -> Move {
        Move {
            order_id: "o".to_owned(),
            kind: kind.to_owned(),
            key: format!("k-{kind}"),
            reference: "pi".to_owned(),
            amount: Decimal::new(4_200, 2),
            currency: "USD".to_owned(),
        }
    }

    #[test]
    fn every_row_must_be_in_both_books_as_often_and_the_same() {
        let both = [row("authorize"), row("void")];
        assert_eq!(differences(&both, &[row("void"), row("authorize")]), Vec::<String>::new());
        let finds = |ours: &[Move], words: &str| {
            let found = differences(ours, &both);
            assert!(found.iter().any(|fault| fault.contains(words)), "{words} not in {found:?}");
        };
        finds(&both[..1], "only the gateway booked Move { order_id: \"o\", kind: \"void\"");
        finds(&[row("authorize"), row("void"), row("void")], "only we booked");
        finds(&[row("authorize"), Move { amount: Decimal::ONE, ..row("void") }], "only we booked");
        finds(&[row("authorize"), Move { key: String::new(), ..row("void") }], "only we booked");
        // The scale of a decimal is no difference.
        let scaled = Move { amount: Decimal::new(42_000, 3), ..row("void") };
        assert!(differences(&[row("authorize"), scaled], &both).is_empty());
    }
}
