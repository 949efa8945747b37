//! A worker (or a relay) as a process of its own, for the fault tests to kill, stop and mislead: the example `faults_worker`.
//!
//! An example, because cargo builds it with the tests, it needs nothing that the engine does not, and the list of tests has no test in
//! it that is none. It shares its modules with the test binary beside it.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use stepwise_engine::{
    WorkerConfig,
    hooks::Hooks,
    migrations,
    outbox::{Accepted, Outgoing, Publisher, PublisherState, Rejection, Relay, RelaySettings},
    quarantine::{Quarantine, quarantined},
    work,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    outside::{Outside, Reply, Request},
    told::{Role, Sabotage, Told},
};

mod basket;
mod letter;
mod nap;
mod outside;
mod purchase;
mod sagas;
mod told;
mod trip;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let told: Told = match std::env::args().nth(1).map(|text| serde_json::from_str(&text)) {
        Some(Ok(told)) => told,
        other => {
            eprintln!("this process is started by the fault tests, not by {other:?}");
            return ExitCode::from(2);
        }
    };
    let address: PgConnectOptions = told.database.parse().expect("an address");
    // A process that stands still in the middle of a transaction gives its row locks back as it gives back what it leased.
    let patience = told.lease.as_millis().to_string();
    let options = address.options([("idle_in_transaction_session_timeout", patience)]);
    let pool = PgPoolOptions::new().max_connections(8).connect_lazy_with(options);
    let outside = Outside(told.outside.clone());
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be handled");
    match told.role {
        Role::Quarantined => {
            let engine = sagas::engine(pool, &outside, told.sabotage, told.release);
            match quarantined(engine, config(told)).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(%error, "suspects were not driven");
                    ExitCode::FAILURE
                }
            }
        }
        Role::Work => {
            if let Err(error) = migrations::verify(&pool).await {
                tracing::error!(%error, "this is no schema of this release");
                return ExitCode::from(4);
            }
            let engine = sagas::engine(pool, &outside, told.sabotage, told.release);
            let shutdown = async move {
                terminate.recv().await;
            };
            match work(engine, config(told), shutdown).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(%error, "the worker could not begin");
                    ExitCode::FAILURE
                }
            }
        }
        Role::Relay => {
            let stop = CancellationToken::new();
            let settings = RelaySettings {
                lease: told.lease,
                poll: told.poll,
                drain: told.drain,
                ..Default::default()
            };
            let relay = Relay::new(pool, Arc::new(Consumer(outside)), settings);
            let running = tokio::spawn(relay.run(stop.clone()));
            terminate.recv().await;
            stop.cancel();
            if running.await.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn config(told: Told) -> WorkerConfig {
    let mut hooks =
        Hooks { without_fence: told.sabotage == Some(Sabotage::Fence), ..Hooks::default() };
    if let Some(abort_at) = told.abort_at {
        let sites = AtomicUsize::new(0);
        hooks.stops_at = Some(Arc::new(move |site| {
            if sites.fetch_add(1, Ordering::Relaxed) + 1 == abort_at {
                // Nothing is flushed, closed or given back after this.
                eprintln!("aborts at {site:?}");
                std::process::abort();
            }
            false
        }));
    }
    let child = Told { role: Role::Quarantined, ..told.clone() };
    let quarantine = told.quarantine.then(|| {
        Quarantine::by(move || {
            let mut command =
                tokio::process::Command::new(std::env::current_exe().expect("it runs"));
            command.arg(serde_json::to_string(&child).expect("plain data"));
            command
        })
    });
    WorkerConfig {
        quarantine,
        name: told.name,
        lease: told.lease,
        drain: told.drain,
        poll: told.poll,
        sole: told.sole,
        room: 512,
        hooks,
        ..WorkerConfig::default()
    }
}

/// Gives messages to the outside world.
struct Consumer(Outside);

#[async_trait]
impl Publisher for Consumer {
    async fn publish(&self, message: &Outgoing) -> Result<Accepted, Rejection> {
        let request = Request::Publish {
            subject: message.subject.clone(),
            sequence: message.sequence,
            id: message.message_id,
        };
        match self.0.ask(request).await {
            Ok(Reply::Done(_)) => Ok(Accepted::ByAll),
            Ok(_) => Err(Rejection::Unavailable { reason: "refused".to_owned() }),
            Err(_) => Err(Rejection::Unconfirmed),
        }
    }

    fn state(&self) -> PublisherState {
        PublisherState::Connected
    }
}
