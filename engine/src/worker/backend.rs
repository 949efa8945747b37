//! The apalis side: a [`Backend`] of its own that hands out leased instances, run by `Monitor` under tower layers.
//!
//! apalis schedules, isolates panics and drains at shutdown. Postgres alone decides what the position of an instance is and which worker may
//! change it. A task that is lost here loses nothing: the row stays owned and the sweep finds it.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use apalis::{
    layers::WorkerBuilderExt as _,
    prelude::{Monitor, WorkerBuilder},
};
use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, task_id::RandomId},
    worker::context::WorkerContext,
};
use tower::layer::util::Identity;

use crate::worker::{
    driving::{Driven, Handed},
    state::Worker,
};

/// Hands out the instances that this process owns.
struct Leases {
    worker: Arc<Worker>,
    handed: Handed,
    next: Option<Driven>,
}

impl Drop for Leases {
    /// Passes on an instance that was ready but never asked for.
    fn drop(&mut self) {
        if let Some(driven) = self.next.take() {
            self.worker.hand(driven);
        }
    }
}

impl Backend for Leases {
    type Task = Task<Driven>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        if self.next.is_none() {
            let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
            match handed.poll_recv(cx) {
                Poll::Ready(Some(driven)) => self.next = Some(driven),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        match self.next.take() {
            Some(driven) => Poll::Ready(Some(Ok(Task::new(driven)))),
            None => Poll::Pending,
        }
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Leases {
    type Args = Driven;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

/// Runs the Monitor until the worker stops, then waits at most `drain` for calls in flight.
pub(crate) async fn run(worker: Arc<Worker>, handed: Handed, drain: Duration) {
    let stop = worker.stop.clone();
    let name = format!("saga-{}", worker.lease.worker_id);
    let monitor = Monitor::new()
        .register(move |restarts| {
            let worker = worker.clone();
            WorkerBuilder::new(format!("{name}-{restarts}"))
                .backend(Leases { worker: worker.clone(), handed: handed.clone(), next: None })
                .catch_panic()
                // A task of its own per instance: apalis polls all its futures on one.
                .build(move |driven: Driven| worker.begin(driven))
        })
        .should_restart(|_, _| true)
        .shutdown_timeout(drain);
    let stopped = monitor
        .run_with_signal(async move {
            stop.cancelled().await;
            Ok(())
        })
        .await;
    if let Err(error) = stopped {
        tracing::warn!(%error, "the worker did not drain in time; instances in flight wait until its lease runs out");
    }
}
