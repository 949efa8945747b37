//! The process's metrics, in Prometheus' text form.
//!
//! Requests are counted as they happen. The gauges of the installation are read from the database at each
//! scrape. While the database does not answer, these gauges are absent and `stepwise_database_up` is 0.

use std::{fmt::Write as _, sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use poem::Response;
use sqlx::PgPool;
use stepwise_engine::figures::Figures;
use stepwise_workflows::{customer::attempts::Wrong, payment::parked::parked_events, purge};

use crate::readiness::{PartState, Readiness, Report};

/// How long the database may take to answer. Collectors usually wait 10 s.
const PATIENCE: Duration = Duration::from_secs(2);

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Starts recording in this process. Further calls do nothing.
pub fn start() -> Option<&'static PrometheusHandle> {
    let handle = RECORDER.get_or_init(|| {
        const SECONDS: [f64; 12] =
            [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS).ok()?;
        builder.install_recorder().ok()
    });
    handle.as_ref()
}

/// The text of all metrics of this process and of the installation.
pub async fn response(db: &PgPool, readiness: &Readiness) -> Response {
    let text = text(db, readiness).await;
    Response::builder().content_type("text/plain; version=0.0.4").body(text)
}

async fn text(db: &PgPool, readiness: &Readiness) -> String {
    let mut text = start().map(PrometheusHandle::render).unwrap_or_default();
    let (figures, parked, wrong, old, report) = tokio::join!(
        tokio::time::timeout(PATIENCE, Figures::read(db)),
        tokio::time::timeout(PATIENCE, parked_events(db)),
        tokio::time::timeout(PATIENCE, Wrong::read(db)),
        tokio::time::timeout(PATIENCE, purge::backlogs(db, readiness.retention())),
        readiness.report()
    );
    let (figures, parked) = (figures.ok().and_then(Result::ok), parked.ok().and_then(Result::ok));
    let is_up = if figures.is_some() { 1.0 } else { 0.0 };
    gauge(&mut text, "stepwise_database_up", "Whether the database answers", &[("", is_up)]);
    for (name, help, value) in figures.iter().flat_map(Figures::gauges) {
        gauge(&mut text, name, help, &[("", value)]);
    }
    if let Some(parked) = parked {
        let help = "Events of the payment gateway that need a person";
        gauge(&mut text, "stepwise_gateway_events_parked", help, &[("", parked as f64)]);
    }
    if let Ok(Ok(wrong)) = wrong {
        let help = "Log-ins of the last 15 minutes with a wrong address or password, of all accounts together";
        gauge(&mut text, "stepwise_log_ins_wrong", help, &[("", wrong.lately as f64)]);
    }
    if let Ok(Ok(old)) = old {
        let rows =
            old.into_iter().map(|(kind, rows)| (format!("{{kind=\"{kind}\"}}"), rows as f64));
        let rows: Vec<(String, f64)> = rows.collect();
        let rows: Vec<(&str, f64)> =
            rows.iter().map(|(kind, rows)| (kind.as_str(), *rows)).collect();
        let help = "Rows that are older than they are kept, counted up to 10,000 of a kind";
        gauge(&mut text, "stepwise_purge_backlog", help, &rows);
    }
    let Report { database, worker, relay, gateway, paypal, broker } = report;
    let parts = [
        ("database", database),
        ("worker", worker),
        ("relay", relay),
        ("gateway", gateway),
        ("paypal", paypal),
        ("broker", broker),
    ];
    let parts: Vec<(String, f64)> = parts
        .into_iter()
        .filter(|(_, state)| *state != PartState::Elsewhere)
        .map(|(part, state)| {
            (format!("{{part=\"{part}\"}}"), if state.is_away() { 0.0 } else { 1.0 })
        })
        .collect();
    let parts: Vec<(&str, f64)> = parts.iter().map(|(part, up)| (part.as_str(), *up)).collect();
    if !parts.is_empty() {
        gauge(&mut text, "stepwise_part_up", "Whether a part that this process uses works", &parts);
    }
    text
}

/// Appends one gauge with a value for each set of labels.
fn gauge(text: &mut String, name: &str, help: &str, values: &[(&str, f64)]) {
    writeln!(text, "# HELP {name} {help}.\n# TYPE {name} gauge")
        .expect("a string takes everything");
    for (labels, value) in values {
        writeln!(text, "{name}{labels} {value}").expect("a string takes everything");
    }
}
