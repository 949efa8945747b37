//! Placements that the previous release has left half done: their rows hold its undos instead of the steps.

use stepwise_engine::{
    Engine, EngineBuilder, Status,
    testing::{self, Trial},
};
use stepwise_workflows::sagas::place_order::{PlaceOrder, Signal};
use uuid::Uuid;

use crate::{
    crashes::survives,
    trials::{Placements, approval_page, of_the_shop},
};

/// Placements that wait for their customers, as version 1 has stored them; the customers cancel.
struct Recorded(Placements);

impl Trial for Recorded {
    of_the_shop!(PlaceOrder);

    fn others(&self, builder: EngineBuilder) -> EngineBuilder {
        self.0.beside(builder)
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        self.0.start(engine, run).await
    }

    async fn play(&self, engine: &Engine, id: Uuid) {
        if approval_page(engine.pool(), id).await.is_none() {
            return;
        }
        sqlx::query(
            "-- name: test store as version 1
            update saga.instance i set version = 1, undos = jsonb_build_array(
                jsonb_build_object('no', 1, 'by', jsonb_build_object('tx', jsonb_build_object('ReleaseStock', i.subject))),
                jsonb_build_object('no', 1, 'by', jsonb_build_object('activity', jsonb_build_object('Cancel', i.subject))),
                jsonb_build_object('no', i.undos -> 2 -> 'no', 'by', jsonb_build_object('activity', jsonb_build_object('Void',
                    jsonb_build_array(i.subject, i.state -> 'AwaitingApproval' -> 'reference')))))::json
            where i.saga_id = $1 and i.version = 2 and i.status = 'running' and i.state -> 'AwaitingApproval' is not null
                and json_array_length(i.undos) = 3",
        )
        .bind(id)
        .execute(engine.pool())
        .await
        .expect("the database is there");
        testing::signal::<PlaceOrder>(engine, id, "cancel", Signal::CancelRequested).await;
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        if status != Status::Unwound {
            return Err("it is not taken back".to_owned());
        }
        self.0.check(engine, id, "cancelled", 0).await
    }
}

#[test]
fn a_placement_that_version_1_has_left_half_done_is_taken_back_whatever_crashes() {
    survives(&Recorded(Placements::paid_by("challenge")), Status::Unwound, 10);
}
