//! The certificate of an erasure: a proof without personal data, in a chain that shows every change.
//!
//! The person is named by a keyed hash of the customer's id. Its key is that of the tax records, so with the end of the statutory time nobody can
//! tell any more whose certificate it is. Until then a person who shows their customer id can be shown their certificate.

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::rows::StoreCount;
use crate::privacy::CustomerKey;

/// The certificate, as its text in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The form of this text.
    pub version: u32,
    /// The request that asked for the erasure.
    pub request_id: Uuid,
    /// The keyed hash of the customer's id.
    pub subject: String,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When everything was deleted.
    pub erased_at: DateTime<Utc>,
    /// The fingerprint of the destroyed key; `None`: it was destroyed by an earlier erasure.
    pub destroyed_key: Option<String>,
    /// The end of the time for which tax records stay readable.
    pub tax_records_until: DateTime<Utc>,
    /// Messages that could not be published before the key was destroyed. Partners get them without data.
    pub unpublished_messages: i64,
    /// Mails that were deleted.
    pub deleted_mails: u64,
    /// Rows by table.
    pub stores: Vec<StoreCount>,
    /// The tables whose personal fields were ciphertext under the destroyed key, and stay.
    pub unreadable: Vec<String>,
    /// The result of the search after the deletion.
    pub search: String,
}

/// Tables that are only appended to. Their personal fields are sealed.
pub const UNREADABLE: [&str; 3] = ["shop.domain_event", "saga.outbox", "saga.feed"];

/// The keyed hash of a customer's id.
///
/// # Panics
/// Never: any key is long enough.
#[must_use]
pub fn subject(tax: &CustomerKey, customer: Uuid) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(tax.expose()).expect("any length is a key");
    mac.update(b"erasure-certificate:v1:");
    mac.update(customer.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// The fingerprint of a key, which reveals nothing about it.
#[must_use]
pub fn fingerprint(key: &CustomerKey) -> String {
    let hash = Sha256::new().chain_update(b"key fingerprint:v1:").chain_update(key.expose());
    hex::encode(&hash.finalize()[..16])
}

/// The hash of a row of the log.
fn chained(previous: &[u8], text: &str) -> Vec<u8> {
    Sha256::new().chain_update(previous).chain_update(text).finalize().to_vec()
}

/// The hash before the first row.
const GENESIS: [u8; 32] = [0; 32];

/// Appends a certificate to the log. The lock of the log is the last that its transaction takes. Round trips: 3.
pub async fn write(tx: &mut PgConnection, certificate: &Certificate) -> Result<(), sqlx::Error> {
    sqlx::query("-- certificate: lock the log\nselect pg_advisory_xact_lock(hashtext('shop.erasure_certificate'))")
        .execute(&mut *tx)
        .await?;
    let last: Option<(i64, Vec<u8>)> = sqlx::query_as(
        "-- certificate: last of the log
        select n, hash from shop.erasure_certificate order by n desc limit 1",
    )
    .fetch_optional(&mut *tx)
    .await?;
    let (n, previous) = last.unwrap_or((0, GENESIS.to_vec()));
    let text = serde_json::to_string(certificate).expect("ids, texts, counts and times are JSON");
    sqlx::query(
        "-- certificate: append
        insert into shop.erasure_certificate (n, previous_hash, hash, certificate, written_at)
        values ($1, $2, $3, $4, $5)",
    )
    .bind(n + 1)
    .bind(&previous)
    .bind(chained(&previous, &text))
    .bind(&text)
    .bind(certificate.erased_at)
    .execute(tx)
    .await
    .map(|_| ())
}

/// The result of checking the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Every row follows from the row before it.
    Sound {
        /// How many rows.
        certificates: i64,
        /// The hash of the last one, in hex: whoever notes it elsewhere can tell later that none was cut off.
        head: String,
    },
    /// The row with this number was changed, or rows before it are missing.
    Broken(i64),
}

/// Checks every row of the log against the one before it. Reads the whole log, row by row.
pub async fn check(db: &PgPool) -> Result<Checked, sqlx::Error> {
    let mut rows = sqlx::query_as::<_, (i64, Vec<u8>, Vec<u8>, String)>(
        "-- certificate: check
        select n, previous_hash, hash, certificate from shop.erasure_certificate order by n",
    )
    .fetch(db);
    let (mut certificates, mut head) = (0, GENESIS.to_vec());
    while let Some((n, previous, hash, text)) = rows.try_next().await? {
        certificates += 1;
        if n != certificates || previous != head || hash != chained(&previous, &text) {
            return Ok(Checked::Broken(n));
        }
        head = hash;
    }
    Ok(Checked::Sound { certificates, head: hex::encode(head) })
}
