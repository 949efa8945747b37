//! Reactions: consequences of a domain event in the event's own transaction. [`crate::reactions`] lists them for each event.

use futures::future::BoxFuture;
use stepwise_engine::{Saga, Start, StartError};

use super::Context;
use crate::{events::DomainEvent, integration::Notification};

/// Says what follows from an event, consumer by consumer.
pub type Reactions = fn(&DomainEvent) -> Vec<(Consumer, Reaction)>;

/// The consequence for one consumer.
pub enum Reaction {
    /// Nothing is written: why not, or what serves the consumer instead.
    Nothing(&'static str),
    /// Partners are told.
    Tell(Notification),
    /// A saga is started.
    Start(Starting),
}

/// Starts a saga in the transaction of the context.
pub type Starting = Box<
    dyn for<'c, 'd> FnOnce(&'c mut Context<'d>) -> BoxFuture<'c, Result<(), StartError>> + Send,
>;

impl Reaction {
    /// A saga is started.
    pub fn start<S: Saga>(start: Start<S::Input>) -> Self {
        Self::Start(Box::new(move |ctx| {
            Box::pin(async move { ctx.start::<S>(start).await.map(|_| ()) })
        }))
    }
}

/// The consumers that the catalogue names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the catalogue names them")]
pub enum Consumer {
    Admin,
    Audit,
    Cart,
    Catalog,
    Customer,
    Email,
    Inventory,
    Notification,
    Order,
    Payment,
}
