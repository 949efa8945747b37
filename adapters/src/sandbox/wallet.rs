//! Customers and the payment methods that are attached to them, as Stripe keeps them.
//!
//! A method whose token has a text of its own (`pm_sandbox_ok_ada`) belongs to the first customer to whom it is attached: only with that customer can
//! an authorization be opened with it, and once it is detached it is of no use. A token without such a text stands for the card of anybody, like the
//! test cards of Stripe.
//!
//! No money moves here, so the ledger has no lines of it: at a restart the gateway forgets who owns which method and which customers were deleted, and takes any
//! customer whose id it could have given.

use std::collections::{HashMap, HashSet};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::missing;
use super::book::Refusal;
use super::method::Behaviour;
use super::params::{self, Fields, Wrong};
use super::{Shared, wire};

/// The beginning of each customer's id.
const CUSTOMER: &str = "cus_sandbox_";

/// The number of letters after it.
const LETTERS: usize = 16;

/// The owners of methods, and the answers that were given.
#[derive(Default)]
pub(super) struct Wallets {
    /// The owner of each method that was ever attached. `None`: it was detached.
    owners: HashMap<String, Option<String>>,
    /// The answers by idempotency key, each with the fingerprint of its request.
    answers: HashMap<String, (u64, Value)>,
    /// The customers that were deleted.
    deleted: HashSet<String>,
}

impl Wallets {
    /// Whether an authorization can be opened with this method for this customer.
    pub(super) fn allows(&self, token: &str, customer: Option<&str>) -> Result<(), Wrong> {
        if customer.is_some_and(|id| !self.knows(id)) {
            return Err(Wrong("resource_missing"));
        }
        match self.owners.get(token) {
            None => Ok(()),
            Some(Some(owner)) if customer == Some(owner) => Ok(()),
            Some(_) => Err(Wrong("payment_method_not_available")),
        }
    }

    /// Whether there is a customer of this id.
    fn knows(&self, customer: &str) -> bool {
        is_customer(customer) && !self.deleted.contains(customer)
    }

    fn owner(&self, token: &str) -> Option<&str> {
        self.owners.get(token)?.as_deref()
    }
}

fn is_customer(id: &str) -> bool {
    let letters = id.strip_prefix(CUSTOMER).unwrap_or_default();
    letters.len() == LETTERS && letters.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the token has a text of its own, after the name of the behaviour.
fn is_own(token: &str) -> bool {
    token.strip_prefix("pm_sandbox_").is_some_and(|tail| tail.contains('_'))
}

fn shown(token: &str, owner: Option<&str>) -> Value {
    json!({ "id": token, "object": "payment_method", "type": "card", "customer": owner })
}

/// Answers what was answered under this key before, or does it now.
fn once(
    gateway: &Shared,
    path: &str,
    headers: &HeaderMap,
    fields: &Fields,
    act: impl FnOnce(&mut Wallets, &str) -> Result<Value, Wrong>,
) -> Result<Response, Wrong> {
    let key = params::key(headers, fields)?;
    let fingerprint = params::fingerprint(path, fields);
    let mut state = gateway.state();
    let wallets = &mut state.wallets;
    if let Some((asked, answer)) = wallets.answers.get(key) {
        return Ok(match *asked == fingerprint {
            true => Json(answer).into_response(),
            false => wire::refused(Refusal::KeyReused, None),
        });
    }
    let answer = act(wallets, key)?;
    if !key.is_empty() {
        wallets.answers.insert(key.to_owned(), (fingerprint, answer.clone()));
    }
    Ok(Json(answer).into_response())
}

/// `POST /v1/customers`
pub(super) async fn open(
    State(gateway): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let fields = params::only(&body, &["metadata"])?;
    let known = fields.get("metadata[customerId]").cloned();
    once(&State(gateway), "customers", &headers, &fields, |_, key| {
        let unique = match key {
            "" => rand::random::<[u8; 32]>(),
            key => Sha256::digest(key).into(),
        };
        let letters: String = unique.iter().map(|byte| format!("{byte:02x}")).collect();
        let id = format!("{CUSTOMER}{}", &letters[..LETTERS]);
        Ok(json!({ "id": id, "object": "customer", "metadata": { "customerId": known } }))
    })
}

/// `DELETE /v1/customers/{id}`: the customer is deleted for good, and its methods are detached. Like Stripe, takes no parameters and needs no key.
pub(super) async fn delete(
    State(gateway): Shared,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Wrong> {
    params::only(&body, &[])?;
    let mut state = gateway.state();
    let wallets = &mut state.wallets;
    if !wallets.knows(&id) {
        return Ok(missing());
    }
    for owner in wallets.owners.values_mut() {
        owner.take_if(|owner| *owner == id);
    }
    let shown = json!({ "id": id, "object": "customer", "deleted": true });
    wallets.deleted.insert(id);
    Ok(Json(shown).into_response())
}

/// `POST /v1/payment_methods/{token}/attach`
pub(super) async fn attach(
    State(gateway): Shared,
    Path(token): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let fields = params::only(&body, &["customer"])?;
    if Behaviour::from_token(&token).is_none() {
        return Ok(missing());
    }
    let customer = fields.get("customer").cloned().ok_or(Wrong("parameter_missing"))?;
    if !gateway.state().wallets.knows(&customer) {
        return Err(Wrong("resource_missing"));
    }
    once(&State(gateway), &format!("attach {token}"), &headers, &fields, |wallets, _| {
        if is_own(&token) {
            if wallets.owners.contains_key(&token) {
                return Err(Wrong("payment_method_not_available"));
            }
            wallets.owners.insert(token.clone(), Some(customer.clone()));
        }
        Ok(shown(&token, Some(&customer)))
    })
}

/// `POST /v1/payment_methods/{token}/detach`
pub(super) async fn detach(
    State(gateway): Shared,
    Path(token): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let fields = params::only(&body, &[])?;
    if Behaviour::from_token(&token).is_none() {
        return Ok(missing());
    }
    once(&State(gateway), &format!("detach {token}"), &headers, &fields, |wallets, _| {
        if is_own(&token) {
            if wallets.owner(&token).is_none() {
                return Err(Wrong("payment_method_not_available"));
            }
            wallets.owners.insert(token.clone(), None);
        }
        Ok(shown(&token, None))
    })
}

/// `GET /v1/payment_methods/{token}`
pub(super) async fn retrieve(State(gateway): Shared, Path(token): Path<String>) -> Response {
    if Behaviour::from_token(&token).is_none() {
        return missing();
    }
    let state = gateway.state();
    Json(shown(&token, state.wallets.owner(&token))).into_response()
}
