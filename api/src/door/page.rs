//! Pages of lists: the request has `?limit=&cursor=`, the answer is `{items, nextCursor}`.
//!
//! A cursor is the signed sort key of the last item. A client can neither forge a cursor nor use one of
//! another list. A cursor reveals nothing that its item does not show.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use poem_openapi::{
    Object,
    types::{ParseFromJSON, ToJSON, Type},
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::problem::Problem;

/// The default number of items on a page.
const DEFAULT_LIMIT: u32 = 20;
/// The maximum number of items on a page.
const MOST: u32 = 100;

/// One page of a list.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct Page<T: Type + ParseFromJSON + ToJSON> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Send it as `cursor` to get the next page. Absent on the last page.
    pub next_cursor: Option<String>,
}

/// Signs and checks cursors with a secret that all processes share.
#[derive(Clone)]
pub struct Cursors {
    secret: Vec<u8>,
}

impl Cursors {
    /// Uses this secret.
    pub fn new(secret: Vec<u8>) -> Self {
        Self { secret }
    }

    /// The cursor of `list` for the items after `key`.
    pub fn seal<K: Serialize>(&self, list: &str, key: &K) -> String {
        let key = serde_json::to_vec(key).expect("a sort key is plain data");
        let mut bytes = self.signature(list, &key).to_vec();
        bytes.extend(key);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the key of a cursor that [`Self::seal`] made. 400 `invalid_cursor` for any other text.
    pub fn open<K: DeserializeOwned>(
        &self,
        list: &str,
        cursor: Option<&str>,
    ) -> Result<Option<K>, Problem> {
        let Some(cursor) = cursor else { return Ok(None) };
        let invalid = || {
            Problem::bad_request(
                "invalid_cursor",
                "The cursor does not belong to this list; start again without one.",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
        let (signature, key) = bytes.split_at_checked(16).ok_or_else(invalid)?;
        if signature != self.signature(list, key) {
            return Err(invalid());
        }
        serde_json::from_slice(key).map(Some).map_err(|_| invalid())
    }

    /// Hashes in two nested steps (HMAC), so that nobody can append to the signed text.
    fn signature(&self, list: &str, key: &[u8]) -> [u8; 16] {
        let inner = Sha256::new()
            .chain_update(&self.secret)
            .chain_update((list.len() as u64).to_be_bytes())
            .chain_update(list)
            .chain_update(key)
            .finalize();
        let outer = Sha256::new().chain_update(&self.secret).chain_update(inner).finalize();
        let mut short = [0; 16];
        short.copy_from_slice(&outer[..16]);
        short
    }

    /// Makes one page of `rows`, of which [`fetch_count`] were requested.
    pub fn page<R, T, K>(
        &self,
        list: &str,
        limit: u32,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> K,
        item: impl Fn(R) -> T,
    ) -> Page<T>
    where
        T: Type + ParseFromJSON + ToJSON,
        K: Serialize,
    {
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = rows.last().filter(|_| more).map(|last| self.seal(list, &key(last)));
        Page { items: rows.into_iter().map(item).collect(), next_cursor }
    }
}

/// The requested page size. 400 `invalid_parameter` outside 1..100.
pub fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    match asked.unwrap_or(DEFAULT_LIMIT) {
        fine @ 1..=MOST => Ok(fine),
        _ => Err(Problem::bad_request("invalid_parameter", "`limit` must be 1 to 100.")),
    }
}

/// The number of rows to read: one more than the page has, which shows whether there is a next page.
pub fn fetch_count(limit: u32) -> i64 {
    i64::from(limit) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_in_its_own_list_and_only_unchanged() {
        let cursors = Cursors::new(vec![7; 32]);
        let sealed = cursors.seal("orders", &(1, "x"));
        let open = |list, cursor: &str| cursors.open::<(i32, String)>(list, Some(cursor));
        assert_eq!(open("orders", &sealed).expect("ours"), Some((1, "x".to_owned())));
        assert!(open("products", &sealed).is_err());
        let mut forged = sealed.into_bytes();
        forged[0] ^= 1;
        assert!(open("orders", &String::from_utf8_lossy(&forged)).is_err());
        assert!(Cursors::new(vec![8; 32]).open::<(i32, String)>("orders", Some("AAAA")).is_err());
    }
}
