//! Exporting a customer's data, and erasing the customer.

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    param::Path,
    types::{Any, ToJSON as _},
};
use serde_json::Value;
use stepwise_workflows::{
    export::{Export, ExportRefusal, export_customer_data},
    sagas::gdpr_erasure::{self, GdprErasure, RequestErasureError, request_gdpr_erasure},
};
use uuid::Uuid;

use super::{
    Group,
    operations::{self, Begun, ErasureShape, OperationShape},
    order_shape::OrderShape,
};
use crate::door::{
    Ask,
    caller::{By, CustomerOnly},
    idempotency::OptionalKey,
    incoming::Incoming,
    json::Body,
    personal::shown_to,
    prefer::Prefer,
    problem::Problem,
    refuses::Refuses,
    reply::Done,
};

/// The operations about erasing customers.
pub struct Erasure;

/// A request to be erased.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct RequestGdprErasure {
    /// Must be true: an erasure cannot be taken back.
    confirmation: bool,
}

/// Everything that the shop holds of a customer. Hashes and tokens are left out.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CustomerExport {
    exported_at: DateTime<Utc>,
    /// The account: email address, names, times.
    customer: Any<Value>,
    /// Addresses, also removed ones that are kept still.
    addresses: Vec<Any<Value>>,
    /// Payment methods, also removed ones that are kept still.
    payment_methods: Vec<Any<Value>>,
    /// Carts with their items.
    carts: Vec<Any<Value>>,
    /// Orders as getOrder shows them, newest first.
    orders: Vec<Any<Value>>,
    /// Events about the customer, the carts, the orders and the payments, oldest first.
    events: Vec<Any<Value>>,
    /// The times of open sessions.
    sessions: Vec<Any<Value>>,
    /// The times of attempts to log in, one for each network or device.
    log_in_attempts: Vec<Any<Value>>,
    /// Earlier exports.
    exports: Vec<Any<Value>>,
    /// Whether all orders and events are in it. If not, listOrders has the other orders.
    is_complete: bool,
}

impl From<Export> for CustomerExport {
    fn from(export: Export) -> Self {
        let all = |values: Vec<Value>| values.into_iter().map(Any).collect();
        let orders = export.orders.into_iter();
        let orders = orders.filter_map(|order| OrderShape::from(order).to_json()).map(Any);
        Self {
            exported_at: export.exported_at,
            customer: Any(export.customer),
            addresses: all(export.addresses),
            payment_methods: all(export.payment_methods),
            carts: all(export.carts),
            orders: orders.collect(),
            events: all(export.events),
            sessions: all(export.sessions),
            log_in_attempts: all(export.log_in_attempts),
            exports: all(export.exports),
            is_complete: export.is_complete,
        }
    }
}

#[OpenApi(prefix_path = "/v1/customers", tag = "Group::Customers")]
impl Erasure {
    /// Get everything that the shop holds of the customer, in one document. Each export is noted, and shown in later ones.
    #[oai(path = "/:customerId/export", method = "get", operation_id = "exportCustomerData")]
    async fn export(
        &self,
        by: By<CustomerOnly>,
        incoming: Data<&Incoming>,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
    ) -> Result<Done<CustomerExport>, Refuses<ExportRefusal>> {
        let customer_id = by.acts_for(customer_id.0)?;
        by.door.limits.attempt(&format!("export {customer_id}"), None).await?;
        let _turn = by.door.turn_to_read().await?;
        let mut tx = by.door.begin().await?;
        let cause = incoming.cause(by.actor());
        let mut ctx = by.door.context(&mut tx, cause);
        let export = export_customer_data(&mut ctx, customer_id).await?;
        tx.commit().await?;
        let shown = shown_to(&by, || CustomerExport::from(export));
        Ok(Done::to(&by, &shown))
    }

    /// Erase all personal data of the customer. The account is frozen and all its sessions are ended at once, so the token of this request is refused
    /// from then on; `Prefer: wait=30` waits for the end within the request. Refused while an order is not delivered, cancelled or failed.
    #[oai(path = "/:customerId/erasure", method = "post", operation_id = "requestGdprErasure")]
    async fn request(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "Prefer")] prefer: Prefer,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        body: Body<RequestGdprErasure>,
    ) -> Result<Begun<200, ErasureShape>, Refuses<RequestErasureError>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let confirmation = body.value.confirmation;
        let request = gdpr_erasure::RequestGdprErasure { customer_id, confirmation };
        let ask = Ask::new("requestGdprErasure", &by, &key).with(&body);
        let door = &by.door;
        let accepted: Result<_, Problem> = door
            .command(ask, async |ctx| {
                let operation_id = request_gdpr_erasure(ctx, &request).await?;
                let operation = OperationShape::begun::<GdprErasure>(operation_id, customer_id);
                Ok(operation.accepted(&by))
            })
            .await;
        let accepted = accepted?;
        door.callers.forget(&by.token_hash);
        Ok(operations::wait(door, &by, accepted, prefer.0).await?)
    }
}
