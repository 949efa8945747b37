//! addShippingAddress, listAddresses, getAddress, removeAddress.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{is_active, lock};
use crate::{
    events::{DomainEvent, Sealed, tell},
    privacy::KeyStoreError,
    refusal::refusals,
    shop::{Context, config::Config},
    text::{self, BadField},
};

/// The command.
#[derive(Clone)]
pub struct AddShippingAddress {
    /// The customer.
    pub customer_id: Uuid,
    /// Street and number, at most 200 characters.
    pub street: String,
    /// At most 100 characters.
    pub city: String,
    /// State code, such as `CA`.
    pub state: String,
    /// ZIP or ZIP+4.
    pub postal_code: String,
    /// Country code, such as `US`.
    pub country: String,
    /// The recipient, at most 200 characters.
    pub recipient_name: String,
}

/// A saved address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct AddressView {
    /// The address.
    pub address_id: Uuid,
    /// The recipient.
    pub recipient_name: String,
    /// Street and number.
    pub street: String,
    /// City.
    pub city: String,
    /// State code.
    pub state: String,
    /// ZIP or ZIP+4.
    pub postal_code: String,
    /// Country code.
    pub country: String,
    /// When it was saved.
    pub created_at: DateTime<Utc>,
}

refusals! {
    /// Why an address was refused.
    #[derive(Debug, thiserror::Error)]
    pub enum AddressRefusal {
        /// Unknown, or the account is being erased.
        #[error("There is no such customer.")]
        CustomerNotFound => NotFound "customer_not_found",
        /// No such address of this customer.
        #[error("there is no such address")]
        AddressNotFound => NotFound "address_not_found",
        /// The customer has as many addresses as the shop keeps for one.
        #[error("the account has too many addresses: remove one first")]
        TooMany => Conflict "too_many_addresses",
        /// Not the country the shop ships to.
        #[error("the shop ships to {0} only")]
        CountryNotSupported(String) => Unprocessable "country_not_supported" at "/country",
        /// Not a state of that country.
        #[error("not a state code such as CA")]
        InvalidState => Unprocessable "invalid_state" at "/state",
        /// Not a ZIP or ZIP+4.
        #[error("not a postal code such as 94103 or 94103-1234")]
        InvalidPostalCode => Unprocessable "invalid_postal_code" at "/postalCode",
        /// A field is missing or not fit to be kept.
        #[error(transparent)]
        InvalidField(#[from] BadField),
        /// The customer's key cannot be had.
        #[error(transparent)]
        Keys(#[from] KeyStoreError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

refusals! {
    /// Why an address is not shown.
    #[derive(Debug, thiserror::Error)]
    pub enum UnknownAddress {
        /// Unknown, removed, or somebody else's.
        #[error("There is no such address.")]
        NotFound => NotFound "address_not_found",
    }
}

/// Saves an address. 3 round trips.
pub async fn add_shipping_address(
    ctx: &mut Context<'_>,
    command: &AddShippingAddress,
) -> Result<AddressView, AddressRefusal> {
    let (customer_id, address_id) = (command.customer_id, Uuid::now_v7());
    let address = checked(&ctx.shop.config, command, address_id)?;
    let counter = lock(ctx, customer_id).await?.ok_or(AddressRefusal::CustomerNotFound)?;
    let created_at = ctx.now().await?;
    let key = ctx.shop.keys.get(customer_id).await?.ok_or(KeyStoreError::Destroyed)?;
    let sealed = |field, value: &str| Sealed::new(&key, customer_id, field, &value);
    let told = tell([DomainEvent::ShippingAddressAdded {
        customer_id,
        address_id,
        street: sealed("street", &address.street),
        city: sealed("city", &address.city),
        state: sealed("state", &address.state),
        postal_code: sealed("postalCode", &address.postal_code),
        country: address.country.clone(),
    }]);
    let added = sqlx::query(
        "-- address: add
        with owner as (
            update shop.customer set event_count = event_count + $9 where customer_id = $1
        )
        insert into shop.shipping_address
            (address_id, customer_id, recipient_name, street, city, state, postal_code, country,
             created_at)
        select $2, $1, $3, $4, $5, $6, $7, $8, $10
        where (select count(*) from shop.shipping_address
               where customer_id = $1 and removed_at is null) < $11",
    )
    .bind(customer_id)
    .bind(address_id)
    .bind(&address.recipient_name)
    .bind(&address.street)
    .bind(&address.city)
    .bind(&address.state)
    .bind(&address.postal_code)
    .bind(&address.country)
    .bind(told.count())
    .bind(created_at)
    .bind(ctx.shop.config.most_saved)
    .execute(&mut **ctx)
    .await?;
    if added.rows_affected() == 0 {
        return Err(AddressRefusal::TooMany);
    }
    ctx.record(told.after(counter)).await?;
    Ok(AddressView { created_at, ..address })
}

fn checked(
    config: &Config,
    command: &AddShippingAddress,
    address_id: Uuid,
) -> Result<AddressView, AddressRefusal> {
    let recipient_name = text::field("recipientName", &command.recipient_name, 200)?;
    let street = text::field("street", &command.street, 200)?;
    let city = text::field("city", &command.city, 100)?;
    let country = text::field("country", &command.country, 100)?.to_uppercase();
    if country != config.country {
        return Err(AddressRefusal::CountryNotSupported(config.country.clone()));
    }
    let state = text::field("state", &command.state, 100)?.to_uppercase();
    if !config.tax_rates.contains_key(state.as_str()) {
        return Err(AddressRefusal::InvalidState);
    }
    let postal_code = text::field("postalCode", &command.postal_code, 100)?;
    if !is_zip(&postal_code) {
        return Err(AddressRefusal::InvalidPostalCode);
    }
    let created_at = DateTime::UNIX_EPOCH;
    Ok(AddressView {
        address_id,
        recipient_name,
        street,
        city,
        state,
        postal_code,
        country,
        created_at,
    })
}

/// Five digits, or five, a hyphen and four.
fn is_zip(code: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match code.split_once('-') {
        Some((zip, four)) => zip.len() == 5 && four.len() == 4 && is_digits(zip) && is_digits(four),
        None => code.len() == 5 && is_digits(code),
    }
}

/// The addresses of a customer after this one, oldest first. 1 round trip.
pub async fn list_addresses(
    connection: &mut PgConnection,
    customer_id: Uuid,
    after: Option<Uuid>,
    count: i64,
) -> Result<Vec<AddressView>, sqlx::Error> {
    sqlx::query_as(
        "-- address: list
        select address_id, recipient_name, street, city, state, postal_code, country, created_at
        from shop.shipping_address
        where customer_id = $1 and removed_at is null and ($2::uuid is null or address_id > $2)
        order by address_id limit $3",
    )
    .bind(customer_id)
    .bind(after)
    .bind(count)
    .fetch_all(connection)
    .await
}

/// An address of a customer. `None`: unknown, removed, or somebody else's. 1 round trip.
pub async fn get_address(
    connection: &mut PgConnection,
    customer_id: Uuid,
    address_id: Uuid,
) -> Result<Option<AddressView>, sqlx::Error> {
    sqlx::query_as(
        "-- address: get
        select address_id, recipient_name, street, city, state, postal_code, country, created_at
        from shop.shipping_address
        where address_id = $2 and customer_id = $1 and removed_at is null",
    )
    .bind(customer_id)
    .bind(address_id)
    .fetch_optional(connection)
    .await
}

/// Deletes an address, so that no number of removed ones is left; orders that go there keep their copy. 2 round trips.
pub async fn remove_address(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
    address_id: Uuid,
) -> Result<(), AddressRefusal> {
    if !is_active(ctx, customer_id).await? {
        return Err(AddressRefusal::CustomerNotFound);
    }
    let removed = sqlx::query(
        "-- address: remove
        delete from shop.shipping_address
        where address_id = $1 and customer_id = $2 and removed_at is null",
    )
    .bind(address_id)
    .bind(customer_id)
    .execute(&mut **ctx)
    .await?;
    if removed.rows_affected() == 0 { Err(AddressRefusal::AddressNotFound) } else { Ok(()) }
}
