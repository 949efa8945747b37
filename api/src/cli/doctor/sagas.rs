//! Doctor's checks of the work in the database: stuck sagas, waiting events, and effects that were not taken back.

use sqlx::PgPool;
use stepwise_engine::{
    figures::Figures,
    inspect,
    outbox::{self, Failing, FeedTroubles},
};

use super::{super::Failure, Finding};

/// Seconds that a message or a due saga may wait; a longer wait is reported as a fault.
const TOO_LONG_S: f64 = 30.0;
/// Seconds after which a partner queue's refusal of an event is no longer reported as a fault.
const LATELY_S: f64 = 3_600.0;
/// The number of rows that a line names. It only counts the others.
const NAMED: i64 = 3;

/// Runs all checks of sagas and events.
pub(super) async fn look(db: &PgPool) -> Vec<Finding> {
    let (figures, forgotten, unbalanced, failing, published, parked, stuck) = tokio::join!(
        Figures::read(db),
        forgotten(db),
        unbalanced(db),
        outbox::failing(db, NAMED),
        published(db),
        parked(db),
        stuck(db)
    );
    let mut findings = match figures {
        Ok(figures) => vec![
            needing_a_person(&figures, &stuck.unwrap_or_default()),
            workers(&figures),
            events(&figures, &failing.unwrap_or_default()),
            relays(&figures),
        ],
        Err(error) => vec![Finding::fail("sagas", Failure::from(error).to_string())],
    };
    findings.extend([published, forgotten, unbalanced, parked]);
    findings
}

/// The count, followed by examples.
fn such_as(counted: String, named: &[String]) -> String {
    if named.is_empty() { counted } else { format!("{counted}, such as {}", named.join("; ")) }
}

fn needing_a_person(figures: &Figures, named: &[String]) -> Finding {
    let Figures { stuck, paused, unwinding, .. } = figures;
    let counted = format!("{paused} paused by persons, {unwinding} unwinding, {stuck} stuck");
    Finding::judged(
        "sagas",
        *stuck == 0,
        such_as(counted, named),
        "run `stepwise saga list --status stuck`; docs/operating.md says which verb to use",
    )
}

/// Describes the first stuck sagas.
async fn stuck(db: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- name: doctor stuck
        select format('%s %s: %s', name, saga_id, coalesce(last_error, 'no reason'))
        from saga.instance where status = 'stuck' limit $1",
    )
    .bind(NAMED)
    .fetch_all(db)
    .await
}

fn workers(figures: &Figures) -> Finding {
    let Figures { workers, orphaned, suspect, oldest_due_s, .. } = figures;
    Finding::judged(
        "workers",
        *orphaned == 0 && *suspect == 0 && *oldest_due_s < TOO_LONG_S,
        format!(
            "{workers} alive, {orphaned} sagas held by dead workers, {suspect} sagas of dead workers without a step for 60 s, the oldest due saga waits {oldest_due_s:.0} s"
        ),
        "start a `stepwise work`, or read its log",
    )
}

fn events(figures: &Figures, failing: &[Failing]) -> Finding {
    let Figures { outbox_messages, outbox_oldest_s, outbox_failing, .. } = figures;
    let named: Vec<String> = failing
        .iter()
        .map(|Failing { kind, subject, tries, error, .. }| {
            format!("{kind} about {subject} after {tries} tries: {error}")
        })
        .collect();
    let counted = format!(
        "{outbox_messages} events wait, the oldest {outbox_oldest_s:.0} s; the broker did not take {outbox_failing}"
    );
    Finding::judged(
        "events",
        *outbox_failing == 0 && *outbox_oldest_s < TOO_LONG_S,
        such_as(counted, &named),
        "check that a relay runs and that the broker takes events; an event that is not taken delays later events of its subject only",
    )
}

/// Checks the events of the feed that a receiver could not be given.
async fn published(db: &PgPool) -> Finding {
    const WHAT: &str = "feed";
    let troubles = match outbox::feed_troubles(db).await {
        Ok(troubles) => troubles,
        Err(error) => return Finding::fail(WHAT, Failure::from(error).to_string()),
    };
    let FeedTroubles { refused, refused_s_ago, refused_reason, unreadable, unreadable_reason } =
        troubles;
    let last = |reason: Option<String>| reason.map_or_else(String::new, |it| format!(" ({it})"));
    let ago = refused_s_ago.map_or_else(String::new, |ago| format!(", the last {ago:.0} s ago"));
    Finding::judged(
        WHAT,
        unreadable == 0 && refused_s_ago.is_none_or(|ago| ago > LATELY_S),
        format!(
            "{unreadable} published events could not be opened and were set aside{}, {refused} were refused by a partner's queue{ago}{}",
            last(unreadable_reason),
            last(refused_reason)
        ),
        "see \"Events and the broker\" in docs/operating.md",
    )
}

fn relays(figures: &Figures) -> Finding {
    let shards = figures.outbox_shards_without_relay;
    Finding::judged(
        "relays",
        shards == 0,
        format!("{shards} shards with waiting events and no living relay"),
        "start a `stepwise relay`, or read its log",
    )
}

/// Checks the gateway's events that wait for a person.
async fn parked(db: &PgPool) -> Finding {
    let asked = sqlx::query_as(
        "-- name: doctor parked
        select count(*), (array_agg(format('%s %s of %s: %s', kind, event_id, coalesce(reference, 'nothing that can be read'), why)))[:$1]
        from (select * from shop.parked_gateway_event where ended_at is null order by parked_at limit 10000) p",
    );
    let asked = asked.bind(i32::try_from(NAMED).unwrap_or(1)).fetch_one(db).await;
    match asked {
        Ok((parked, named)) => {
            let (parked, named): (i64, Option<Vec<String>>) = (parked, named);
            Finding::judged(
                "webhooks",
                parked == 0,
                such_as(
                    format!("{parked} events of the gateway need a person"),
                    &named.unwrap_or_default(),
                ),
                "see `stepwise parked list`, and \"Events of the gateway\" in docs/operating.md",
            )
        }
        Err(error) => Finding::fail("webhooks", Failure::from(error).to_string()),
    }
}

async fn forgotten(db: &PgPool) -> Finding {
    match inspect::forgotten(db).await {
        Ok(none) if none.is_empty() => {
            Finding::ok("forgotten", "every open saga will be driven again")
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
        None => Finding::ok(
            "effects",
            format!(
                "every effect of a saga that was undone was taken back; an operator has accounted for {}",
                waived.len()
            ),
        ),
        Some(one) => Finding::fail(
            "effects",
            format!(
                "{} effects stand although their sagas were undone, such as {} of saga {}, step {}; take them \
                 back at the provider",
                left.len(),
                one.kind,
                one.saga_id,
                one.step_no
            ),
        ),
    }
}
