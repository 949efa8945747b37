//! getOrderTimeline.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// Something that has happened to an order or to its payment.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Happened {
    /// When, business time.
    pub at: DateTime<Utc>,
    /// The event's name in the catalogue, such as `OrderShipped`.
    pub event: String,
    /// The kind of actor: `customer`, `admin`, `service`, `system`. `None` for events that were recorded before actors were.
    pub actor: Option<String>,
}

/// Everything that has happened to an order and its payments, oldest first; at most some ten events. `customer_id`: only an order of this
/// customer. `None`: there is no such order. 1 round trip.
///
/// # Errors
/// The database's.
pub async fn get_order_timeline(
    connection: &mut PgConnection,
    order_id: Uuid,
    customer_id: Option<Uuid>,
) -> Result<Option<Vec<Happened>>, sqlx::Error> {
    type Row = (Option<DateTime<Utc>>, Option<String>, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        r#"-- order: timeline
        select e.recorded_at, e.name, split_part(e.actor, ':', 1)
        from shop."order" o
        cross join lateral (
            select o.order_id union all select payment_id from shop.payment where order_id = o.order_id
        ) about (id)
        left join shop.domain_event e on e.aggregate_id = about.id
        where o.order_id = $1 and ($2::uuid is null or o.customer_id = $2)
        order by e.recorded_at, e.event_id"#,
    )
    .bind(order_id)
    .bind(customer_id)
    .fetch_all(connection)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    // An order or a payment without events is one row of nulls.
    let happened = rows
        .into_iter()
        .filter_map(|(at, event, actor)| Some(Happened { at: at?, event: event?, actor }));
    Ok(Some(happened.collect()))
}
