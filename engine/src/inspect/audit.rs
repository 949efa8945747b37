//! Two checks that should find nothing: for forgotten instances, and for effects that were left standing outside.

use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::{
    base::{
        amount::{Amount, readable_amount},
        status::WaitingOn,
    },
    record::words::EffectStatus,
};

/// An open instance that nothing would ever move again.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Forgotten {
    /// The instance.
    pub saga_id: Uuid,
    /// The saga's name.
    pub name: String,
    /// The thing that it waits on.
    pub waiting_on: Option<WaitingOn>,
    /// The part that is missing.
    pub why: String,
}

/// Open instances that neither a worker, nor a time, nor a signal, nor a relative, nor a person would move. There are none: each commit
/// leaves a reason to wake, and the constraint `an_open_instance_has_a_reason_to_wake` refuses most of what is not one.
///
/// Round trips: 1. It reads all open instances: for checks, not for pages.
///
/// # Errors
/// The database's.
pub async fn forgotten(pool: &PgPool) -> Result<Vec<Forgotten>, sqlx::Error> {
    sqlx::query_as(
        "-- name: inspect forgotten
        select f.* from (
            select i.saga_id, i.name, i.waiting_on, case
                when i.waiting_on is null then 'it waits on nothing'
                when i.waiting_on = 'operator' then case
                    when i.status not in ('stuck', 'paused') then 'it waits on a person whom nobody tells' end
                when i.status in ('stuck', 'paused') then 'it needs a person, and is not said to'
                when i.owner is not null then case
                    when not exists (select from saga.worker w where w.worker_id = i.owner) then 'its owner has no lease' end
                when i.queued then case when i.queue_key is null then 'it waits its turn in no queue' end
                when i.wake_at is not null then null
                when i.pending -> 'timer' is not null then 'its timer never fires'
                when i.waiting_on = 'signal' then null
                when i.waiting_on = 'children' then case
                    when not exists (select from saga.join_wait j where j.shard = i.shard and j.saga_id = i.saga_id)
                    then 'nobody wakes it when its children have ended' end
                when i.waiting_on = 'parent' then case
                    when not exists (select from saga.child_release r where r.shard = i.shard and r.saga_id = i.parent_id)
                        and not exists (
                            select from saga.instance p where p.shard = i.shard and p.saga_id = i.parent_id and not p.past_pivot
                                and p.status not in ('completed', 'unwound', 'abandoned'))
                    then 'its parent has let go without it' end
                else 'no time and no owner' end as why
            from saga.instance i where i.status not in ('completed', 'unwound', 'abandoned')) f
        where f.why is not null order by f.saga_id",
    )
    .fetch_all(pool)
    .await
}

/// An effect that nobody took back although its instance did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Standing {
    /// The instance.
    pub saga_id: Uuid,
    /// The saga's name.
    pub name: String,
    /// The step that made it; with the instance's id the idempotency key.
    pub step_no: i32,
    /// For example `authorization`.
    pub kind: String,
    /// How much it moves, if it moves money.
    pub amount: Option<Amount>,
    /// The provider's reference.
    pub reference: Option<String>,
    /// Intent or confirmed; waived where a person answers for it (the journal says who, and why).
    pub status: EffectStatus,
}

impl Standing {
    /// Does a person answer for it?
    #[must_use]
    pub fn is_answered_for(&self) -> bool {
        self.status == EffectStatus::Waived
    }
}

/// Every effect of an unwound instance that was neither refuted nor taken back, and every effect that a person has waived. If only
/// waived effects are left, the ledger nets to zero: nothing else of an unwound instance stands outside.
///
/// Round trips: 1. It reads the ledger: for checks, not for pages.
///
/// # Errors
/// The database's.
pub async fn unbalanced(pool: &PgPool) -> Result<Vec<Standing>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- name: inspect unbalanced
        select e.saga_id, i.name, e.step_no, e.kind, ",
        readable_amount!("e"),
        ", e.reference, e.status
        from saga.effect e join saga.instance i on i.shard = e.shard and i.saga_id = e.saga_id
        where e.status = 'waived' or (e.status in ('intent', 'confirmed') and i.status = 'unwound')
        order by e.saga_id, e.step_no"
    ))
    .fetch_all(pool)
    .await
}
