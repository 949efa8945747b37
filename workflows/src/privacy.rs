//! Personal data outside the customer's own tables is ciphertext under the customer's own key.
//!
//! The key lives in a [`KeyStore`] outside the database cluster. It is durable there before the
//! customer's row exists, and destroying it is what erases a person: every copy of the ciphertext,
//! in events, idempotency bodies and backups, is unreadable from then on.
//!
//! [`seal`] binds a value to its customer and field, so that a ciphertext copied into another row
//! or column does not open. Envelope, version 1: `v1.` and unpadded URL-safe base64 of a random
//! 24-byte nonce followed by the XChaCha20-Poly1305 ciphertext and its 16-byte tag; the associated
//! data is the version byte, the customer's id (16 bytes) and the field's name. Lengths are not
//! hidden.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretBox};
use uuid::Uuid;

use crate::refusal::{Declared, Declares, Kind, Refusal, Refused, Surprise};

/// Bytes of a customer's key.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const VERSION: u8 = 1;
const PREFIX: &str = "v1.";

/// Keeps one key per customer, outside the database.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Makes the customer's key and returns once it is durable. Repeating it gives the same key.
    async fn create(&self, customer_id: Uuid) -> Result<CustomerKey, KeyStoreError> {
        let mut keys = self.create_many(&[customer_id]).await?;
        Ok(keys.pop().expect("create_many answers one key for each customer"))
    }

    /// [`create`](Self::create) for many customers with one wait for the disk; keys in the order
    /// of the ids. All or none are made.
    async fn create_many(&self, customer_ids: &[Uuid]) -> Result<Vec<CustomerKey>, KeyStoreError>;

    /// The customer's key; `None`: it was destroyed, so the customer is erased. A key that this store
    /// has never held is [`KeyStoreError::Missing`]: that says nothing about the customer.
    async fn get(&self, customer_id: Uuid) -> Result<Option<CustomerKey>, KeyStoreError>;

    /// Destroys the customer's key for good and returns once that is durable. `true`: it was there.
    /// Afterwards `get` is `None` and `create` is refused, for this id and for ever.
    async fn destroy(&self, customer_id: Uuid) -> Result<bool, KeyStoreError>;
}

/// Why the key store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The customer's key was destroyed; it is never made again.
    #[error("the customer's key was destroyed")]
    Destroyed,
    /// This store never held the customer's key: it is another installation's store, or an old copy.
    #[error("the key of customer {0} is missing in this key store; restore the store's backup")]
    Missing(Uuid),
    /// The stored data cannot be opened or contradicts itself. An operator must look at it.
    #[error("the key store is damaged: {0}")]
    Damaged(&'static str),
    /// The storage failed; try again.
    #[error("the key store cannot be read or written: {0}")]
    Storage(#[from] std::io::Error),
}

/// The customer is unknown, because the key is destroyed when the customer is erased.
const ERASED: Declared = Declared {
    kind: Kind::NotFound,
    code: "customer_not_found",
    pointer: None,
    sentence: "There is no such customer.",
};

/// The key store is away for now.
const AWAY: Declared = Declared {
    kind: Kind::Unavailable,
    code: "key_store_unavailable",
    pointer: None,
    sentence: "The key store is unavailable at the moment.",
};

impl Declares for KeyStoreError {
    fn declared() -> Vec<Declared> {
        vec![ERASED, AWAY]
    }
}

impl Refusal for KeyStoreError {
    fn refused(self) -> Result<Refused, Surprise> {
        match self {
            Self::Destroyed => Ok(ERASED.into()),
            // The store logs when this begins and when it ends.
            Self::Storage(_) => Ok(AWAY.into()),
            error @ (Self::Missing(_) | Self::Damaged(_)) => {
                Err(Surprise::Broken(format!("a customer's data cannot be read: {error}")))
            }
        }
    }
}

/// A customer's key. Does not show in logs and is wiped from memory with its last copy.
#[derive(Clone)]
pub struct CustomerKey(Arc<SecretBox<[u8; KEY_BYTES]>>);

impl CustomerKey {
    /// Takes the bytes of a key.
    #[must_use]
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Arc::new(SecretBox::new(Box::new(bytes))))
    }

    /// Draws a new key.
    #[must_use]
    pub fn random() -> Self {
        Self::new(rand::random())
    }

    /// The bytes, for whoever stores them.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(***)")
    }
}

/// Seals `plain` for `field` of the customer; the result is text that may be stored anywhere.
#[must_use]
pub fn seal(key: &CustomerKey, customer_id: Uuid, field: &str, plain: &[u8]) -> String {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let aad = associated_data(customer_id, field);
    let cipher = XChaCha20Poly1305::new(key.expose().into());
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad })
        .expect("encryption fails only beyond 256 GiB");
    let mut bytes = Vec::with_capacity(NONCE_BYTES + sealed.len());
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealed);
    let mut text = String::with_capacity(PREFIX.len() + bytes.len().div_ceil(3) * 4);
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
    text
}

/// Opens what [`seal`] made for the same customer and field.
pub fn open(
    key: &CustomerKey,
    customer_id: Uuid,
    field: &str,
    sealed: &str,
) -> Result<Vec<u8>, OpenError> {
    let text = sealed.strip_prefix(PREFIX).ok_or(OpenError::NotSealed)?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| OpenError::NotSealed)?;
    let Some((nonce, sealed)) = bytes.split_first_chunk::<NONCE_BYTES>() else {
        return Err(OpenError::NotSealed);
    };
    if sealed.len() < TAG_BYTES {
        return Err(OpenError::NotSealed);
    }
    let aad = associated_data(customer_id, field);
    XChaCha20Poly1305::new(key.expose().into())
        .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad })
        .map_err(|_| OpenError::WrongKeyOrPlace)
}

/// Whether `text` looks like the result of [`seal`].
#[must_use]
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Why a sealed value does not open. Never holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not an envelope of a version known here.
    #[error("not a sealed value of a known version")]
    NotSealed,
    /// Sealed under another key, for another customer or field, or changed since.
    #[error("the sealed value does not open here")]
    WrongKeyOrPlace,
}

/// The id has a fixed length, so no two pairs of id and field give the same bytes.
fn associated_data(customer_id: Uuid, field: &str) -> Vec<u8> {
    let mut aad = Vec::with_capacity(1 + 16 + field.len());
    aad.push(VERSION);
    aad.extend_from_slice(customer_id.as_bytes());
    aad.extend_from_slice(field.as_bytes());
    aad
}

pub mod belonging;
#[cfg(test)]
mod tests;
