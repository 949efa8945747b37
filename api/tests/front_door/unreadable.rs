//! A saga whose row cannot be read completely: other sagas are not affected, and this one is shown as far as it can be read.

use reqwest::Method;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    house::{House, send},
    shopper::{Shopper, id, product},
};

/// A customer with an order that waits for the customer's approval.
struct Waiting<'h> {
    shopper: Shopper<'h>,
    order: Uuid,
    operation: Uuid,
}

impl<'h> Waiting<'h> {
    async fn begin(house: &'h House, thing: Uuid) -> Self {
        let shopper = Shopper::new(house).await;
        shopper.add(thing, 1).await.is(200);
        let address = shopper.address().await;
        let body = shopper.order(address, shopper.method("challenge").await);
        let begun = shopper.place(&body, 15).await.is(202).json();
        assert_eq!(begun["action"]["type"], "approve_payment", "{begun}");
        Self { shopper, order: id(&begun["subject"]), operation: id(&begun["id"]) }
    }

    /// Changes the saga's stored row.
    async fn change(&self, how: &str) {
        let statement =
            format!("-- name: test change\nupdate saga.instance set {how} where saga_id = $1");
        let changed = sqlx::query(AssertSqlSafe(statement))
            .bind(self.operation)
            .execute(self.shopper.house.database.pool())
            .await
            .expect("the column is there");
        assert_eq!(changed.rows_affected(), 1, "{how}");
    }
}

#[tokio::test]
async fn a_saga_that_cannot_be_read_whole_answers_its_customer_and_hides_no_other() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 99).await;
    let good = Waiting::begin(&house, thing).await;
    let mut all = vec![good.operation];
    for (how, is_usable) in [
        ("deadline_at = '280000-01-01'", true),
        ("deadline_at = 'infinity', wake_at = '290000-01-01'", true),
        ("updated_at = 'infinity', created_at = '-infinity'", true),
        ("tags = '{\"a\": {\"b\": 1}, \"c\": null}'", true),
        ("state = '\"Nonsense\"'", false),
        ("state = '{}', pending = '[]', undos = '{}'", false),
    ] {
        let odd = Waiting::begin(&house, thing).await;
        odd.change(how).await;
        all.push(odd.operation);

        let listed = send(house.get("/v1/admin/sagas?limit=100").bearer_auth(&admin)).await;
        assert_eq!(listed.status, 200, "{how}: {}", listed.text);
        for saga in &all {
            assert!(listed.text.contains(&saga.to_string()), "{how}: {saga} is not listed");
        }
        let path = format!("/v1/admin/sagas/{}", odd.operation);
        let shown = send(house.get(&path).bearer_auth(&admin)).await;
        assert_eq!(shown.status, 200, "{how}: {}", shown.text);
        let Waiting { shopper, order, operation } = &odd;
        let asked = shopper.get(&format!("/v1/operations/{operation}")).await;
        assert_eq!(asked.status, 200, "{how}: {}", asked.text);
        assert_eq!(asked.json()["status"], "running", "{how}: {}", asked.text);
        assert_eq!(shopper.get(&format!("/v1/orders/{order}")).await.status, 200, "{how}");
        assert_eq!(shopper.get("/v1/orders?limit=20").await.status, 200, "{how}");
        // A saga that can continue ends at once. A row that nobody can read keeps the decision for later.
        let cancelled = shopper.cancel(*order, if is_usable { 15 } else { 1 }).await;
        let expected = if is_usable { 200 } else { 202 };
        assert_eq!(cancelled.status, expected, "{how}: {}", cancelled.text);
    }
    let asked = good.shopper.ask(Method::GET, &format!("/v1/operations/{}", good.operation));
    assert_eq!(send(asked).await.is(200).json()["action"]["type"], "approve_payment");
    good.shopper.cancel(good.order, 15).await.is(200);
    house.close().await;
}
