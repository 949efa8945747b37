//! What goes on in the database: sagas that need somebody, events that wait, what was left standing outside.

use sqlx::PgPool;
use stepwise_engine::{figures::Figures, inspect};

use super::{super::Failure, Finding};

/// A message or a due saga that waits longer, in seconds, waits for something that is broken.
const TOO_LONG_S: f64 = 30.0;

/// Everything that is asked about sagas and events.
pub(super) async fn look(db: &PgPool) -> Vec<Finding> {
    let (figures, forgotten, unbalanced, failing, parked) = tokio::join!(
        Figures::read(db),
        forgotten(db),
        unbalanced(db),
        first_failing(db),
        parked(db)
    );
    let mut findings = match figures {
        Ok(figures) => vec![
            needing_a_person(&figures),
            workers(&figures),
            events(&figures, failing.ok().flatten()),
            relays(&figures),
        ],
        Err(error) => vec![Finding::fail("sagas", Failure::from(error).to_string())],
    };
    findings.extend([forgotten, unbalanced, parked]);
    findings
}

fn needing_a_person(figures: &Figures) -> Finding {
    let Figures { stuck, paused, unwinding, .. } = figures;
    Finding::judged(
        "sagas",
        *stuck == 0,
        format!("{stuck} stuck, {paused} paused by persons, {unwinding} unwinding"),
        "look at `stepwise saga list --status stuck`, and at docs/operating.md for which verb when",
    )
}

fn workers(figures: &Figures) -> Finding {
    let Figures { workers, orphaned, oldest_due_s, .. } = figures;
    Finding::judged(
        "workers",
        *orphaned == 0 && *oldest_due_s < TOO_LONG_S,
        format!(
            "{workers} alive, {orphaned} sagas held by dead ones, the oldest due saga waits {oldest_due_s:.0} s"
        ),
        "start a `stepwise work`, or look at its log",
    )
}

fn events(figures: &Figures, failing: Option<String>) -> Finding {
    let Figures { outbox_messages, outbox_oldest_s, outbox_failing, .. } = figures;
    let mut detail = format!(
        "{outbox_messages} wait, the oldest {outbox_oldest_s:.0} s; {outbox_failing} were not taken"
    );
    if let Some(failing) = failing {
        detail = format!("{detail}, such as {failing}");
    }
    Finding::judged(
        "events",
        *outbox_failing == 0 && *outbox_oldest_s < TOO_LONG_S,
        detail,
        "see whether a relay runs and the broker takes events; what is not taken holds back its own subject only",
    )
}

fn relays(figures: &Figures) -> Finding {
    let shards = figures.outbox_shards_without_relay;
    Finding::judged(
        "relays",
        shards == 0,
        format!("{shards} shards with waiting events and no living relay"),
        "start a `stepwise relay`, or look at its log",
    )
}

/// The oldest message that was tried and not taken, in words; without personal data.
async fn first_failing(db: &PgPool) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- name: doctor failing
        select format('%s about %s after %s tries: %s', kind, subject, tries, coalesce(error, 'no reason'))
        from (select * from saga.outbox limit 10000) o where tries > 0 order by recorded_at limit 1",
    )
    .fetch_optional(db)
    .await
}

/// Gateway events that do not fit our books.
async fn parked(db: &PgPool) -> Finding {
    let asked = sqlx::query_scalar::<_, i64>(
        "-- name: doctor parked\nselect count(*) from (select from shop.parked_gateway_event limit 10000) p",
    );
    match asked.fetch_one(db).await {
        Ok(parked) => Finding::judged(
            "webhooks",
            parked == 0,
            format!("{parked} events of the gateway fit no payment of ours"),
            "look at shop.parked_gateway_event and settle them with the provider",
        ),
        Err(error) => Finding::fail("webhooks", Failure::from(error).to_string()),
    }
}

async fn forgotten(db: &PgPool) -> Finding {
    match inspect::forgotten(db).await {
        Ok(none) if none.is_empty() => {
            Finding::ok("forgotten", "every open saga will be looked at")
        }
        Ok(some) => Finding::fail(
            "forgotten",
            format!("{} sagas, such as {}: {}", some.len(), some[0].saga_id, some[0].why),
        ),
        Err(error) => Finding::fail("forgotten", Failure::from(error).to_string()),
    }
}

async fn unbalanced(db: &PgPool) -> Finding {
    let standing = match inspect::unbalanced(db).await {
        Ok(standing) => standing,
        Err(error) => return Finding::fail("effects", Failure::from(error).to_string()),
    };
    let (waived, left): (Vec<_>, Vec<_>) =
        standing.into_iter().partition(inspect::Standing::is_answered_for);
    match left.first() {
        None => Finding::ok("effects", format!("net to zero; persons answer for {}", waived.len())),
        Some(one) => Finding::fail(
            "effects",
            format!(
                "{} stand although all was taken back, such as {} of saga {}, step {}; take them \
                 back at the provider",
                left.len(),
                one.kind,
                one.saga_id,
                one.step_no
            ),
        ),
    }
}
