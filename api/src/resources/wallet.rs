//! A customer's shipping addresses and payment methods.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use stepwise_workflows::{
    customer::{
        UnknownCustomer,
        address::{self, AddressRefusal, AddressView, UnknownAddress},
        method::{self, PaymentMethodView, UnknownMethod},
    },
    payment::gateway::MethodToken,
    sagas::keep_payment_method::{KeepMethodError, add_payment_method, remove_payment_method},
};
use uuid::Uuid;

use super::{
    Group,
    shapes::MoneyShape,
    words::{ApprovalWords, MethodKinds, Word},
};
use crate::door::{
    Ask,
    caller::{By, CustomerOnly},
    idempotency::OptionalKey,
    json::Body,
    page::{self, Page},
    refuses::Refuses,
    reply::{Created, Done, Gone},
};

/// The operations about addresses and payment methods.
pub struct Wallet;

/// A new shipping address.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AddShippingAddress {
    recipient_name: String,
    street: String,
    city: String,
    /// Two letters: `CA`.
    state: String,
    /// ZIP or ZIP+4.
    postal_code: String,
    /// Two letters. The shop ships within its own country only.
    country: String,
}

/// A saved shipping address.
#[derive(Debug, Object)]
#[oai(rename = "ShippingAddress", rename_all = "camelCase")]
struct AddressShape {
    id: Uuid,
    recipient_name: String,
    street: String,
    city: String,
    state: String,
    postal_code: String,
    country: String,
    created_at: DateTime<Utc>,
}

impl From<AddressView> for AddressShape {
    fn from(address: AddressView) -> Self {
        Self {
            id: address.address_id,
            recipient_name: address.recipient_name,
            street: address.street,
            city: address.city,
            state: address.state,
            postal_code: address.postal_code,
            country: address.country,
            created_at: address.created_at,
        }
    }
}

/// A new payment method, as the gateway's form returned it. It never contains a card number.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AddPaymentMethod {
    /// The gateway's token for the card.
    token: String,
    /// `visa`, `mastercard`, ...
    brand: String,
    /// The last four digits.
    last4: String,
}

/// A payment method.
#[derive(Debug, Object)]
#[oai(rename = "PaymentMethod", rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct MethodShape {
    id: Uuid,
    /// `card` or `paypal`.
    kind: Word<MethodKinds>,
    brand: String,
    last4: Option<String>,
    created_at: DateTime<Utc>,
    /// Of the kind `paypal`, which pays one order: `pending` (the customer is to approve), `approved`, `used` or `expired`.
    status: Option<Word<ApprovalWords>>,
    /// Of the kind `paypal`: the total of the order that it pays.
    amount: Option<MoneyShape>,
    /// Of the kind `paypal`: until when the customer may approve it, or use it once it is approved.
    expires_at: Option<DateTime<Utc>>,
}

impl From<PaymentMethodView> for MethodShape {
    fn from(method: PaymentMethodView) -> Self {
        let (status, amount, expires_at) = match method.approval {
            Some(approval) => {
                (Some(approval.status.into()), Some(approval.amount.into()), approval.expires_at)
            }
            None => (None, None, None),
        };
        Self {
            id: method.payment_method_id,
            kind: method.kind.into(),
            brand: method.brand,
            last4: method.last4,
            created_at: method.created_at,
            status,
            amount,
            expires_at,
        }
    }
}

/// The address of a payment method.
pub fn address_of(method: &PaymentMethodView) -> String {
    let PaymentMethodView { customer_id, payment_method_id, .. } = method;
    format!("/v1/customers/{customer_id}/payment-methods/{payment_method_id}")
}

#[OpenApi(prefix_path = "/v1/customers", tag = "Group::Customers")]
impl Wallet {
    /// Save an address.
    #[oai(path = "/:customerId/addresses", method = "post", operation_id = "addShippingAddress")]
    async fn add_address(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        body: Body<AddShippingAddress>,
    ) -> Result<Created<AddressShape>, Refuses<AddressRefusal>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let ask = Ask::new("addShippingAddress", &by, &key).with(&body);
        let AddShippingAddress { recipient_name, street, city, state, postal_code, country } =
            body.value;
        let command = address::AddShippingAddress {
            customer_id,
            street,
            city,
            state,
            postal_code,
            country,
            recipient_name,
        };
        by.door
            .command(ask, async |ctx| {
                let added = address::add_shipping_address(ctx, &command);
                let added = AddressShape::from(added.await?);
                let at = format!("/v1/customers/{customer_id}/addresses/{}", added.id);
                Ok(Created::new(&added).at(at).about(customer_id))
            })
            .await
    }

    /// List the saved addresses, oldest first. An account has 50 at most.
    #[oai(path = "/:customerId/addresses", method = "get", operation_id = "listAddresses")]
    async fn addresses(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<AddressShape>>, Refuses<UnknownCustomer>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let (cursors, limit) = (&by.door.cursors, page::limit(limit.0)?);
        let list = format!("addresses/{customer_id}");
        let after = cursors.open(&list, cursor.0.as_deref())?;
        let count = page::fetch_count(limit);
        let mut db = by.door.db.acquire().await?;
        let rows = address::list_addresses(&mut db, customer_id, after, count).await?;
        Ok(Done::new(&cursors.page(&list, limit, rows, |row| row.address_id, Into::into)))
    }

    /// Get a saved address.
    #[oai(path = "/:customerId/addresses/:addressId", method = "get", operation_id = "getAddress")]
    async fn address(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        #[oai(name = "addressId")] address_id: Path<Uuid>,
    ) -> Result<Done<AddressShape>, Refuses<(UnknownCustomer, UnknownAddress)>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let mut db = by.door.db.acquire().await?;
        let address = address::get_address(&mut db, customer_id, address_id.0).await?;
        Ok(Done::new(&AddressShape::from(address.ok_or(UnknownAddress::NotFound)?)))
    }

    /// Remove an address. Orders keep their copy of it.
    #[oai(
        path = "/:customerId/addresses/:addressId",
        method = "delete",
        operation_id = "removeAddress"
    )]
    async fn remove_address(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        #[oai(name = "addressId")] address_id: Path<Uuid>,
    ) -> Result<Gone, Refuses<AddressRefusal>> {
        let customer_id = by.acts_for(customer_id.0)?;
        by.door
            .command(Ask::new("removeAddress", &by, &key), async |ctx| {
                let removed = address::remove_address(ctx, customer_id, address_id.0);
                removed.await?;
                Ok(Gone::gone())
            })
            .await
    }

    /// Save a payment method.
    #[oai(
        path = "/:customerId/payment-methods",
        method = "post",
        operation_id = "addPaymentMethod"
    )]
    async fn add_method(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        body: Body<AddPaymentMethod>,
    ) -> Result<Created<MethodShape>, Refuses<KeepMethodError>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let ask = Ask::new("addPaymentMethod", &by, &key).with(&body);
        let AddPaymentMethod { token, brand, last4 } = body.value;
        let command =
            method::AddPaymentMethod { customer_id, token: MethodToken(token), brand, last4 };
        by.door
            .command(ask, async |ctx| {
                let added = add_payment_method(ctx, &command);
                let added = added.await?;
                let at = address_of(&added);
                Ok(Created::new(&MethodShape::from(added)).at(at).about(customer_id))
            })
            .await
    }

    /// List the saved payment methods, oldest first. An account has 50 cards at most.
    #[oai(
        path = "/:customerId/payment-methods",
        method = "get",
        operation_id = "listPaymentMethods"
    )]
    async fn methods(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<MethodShape>>, Refuses<UnknownCustomer>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let (cursors, limit) = (&by.door.cursors, page::limit(limit.0)?);
        let list = format!("payment-methods/{customer_id}");
        let after = cursors.open(&list, cursor.0.as_deref())?;
        let count = page::fetch_count(limit);
        let mut db = by.door.db.acquire().await?;
        let rows = method::list_payment_methods(&mut db, customer_id, after, count).await?;
        Ok(Done::new(&cursors.page(&list, limit, rows, |row| row.payment_method_id, Into::into)))
    }

    /// Get a saved payment method.
    #[oai(
        path = "/:customerId/payment-methods/:paymentMethodId",
        method = "get",
        operation_id = "getPaymentMethod"
    )]
    async fn method(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        #[oai(name = "paymentMethodId")] method_id: Path<Uuid>,
    ) -> Result<Done<MethodShape>, Refuses<(UnknownCustomer, UnknownMethod)>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let mut db = by.door.db.acquire().await?;
        let method = method::get_saved_method(&mut db, customer_id, method_id.0).await?;
        Ok(Done::new(&MethodShape::from(method.ok_or(UnknownMethod::NotFound)?)))
    }

    /// Remove a payment method. Payments that were made with it are not affected.
    #[oai(
        path = "/:customerId/payment-methods/:paymentMethodId",
        method = "delete",
        operation_id = "removePaymentMethod"
    )]
    async fn remove_method(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        #[oai(name = "paymentMethodId")] method_id: Path<Uuid>,
    ) -> Result<Gone, Refuses<KeepMethodError>> {
        let customer_id = by.acts_for(customer_id.0)?;
        by.door
            .command(Ask::new("removePaymentMethod", &by, &key), async |ctx| {
                let removed = remove_payment_method(ctx, customer_id, method_id.0);
                removed.await?;
                Ok(Gone::gone())
            })
            .await
    }
}
