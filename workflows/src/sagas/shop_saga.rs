//! The part of a saga that the shop asks for, besides what the engine asks for.
//!
//! The list [`super::SAGAS`] holds trait objects and is no macro, because rustfmt passes over the modules that a macro declares, and because an
//! operation finds its saga by name at run time anyway.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
#[cfg(not(feature = "testing"))]
use stepwise_engine::Saga as Sampled;
#[cfg(feature = "testing")]
use stepwise_engine::testing::{self, Map, Samples as Sampled};
use stepwise_engine::{DoneBy, EngineBuilder, Gate, Saga};

use super::Steps;
use crate::{
    refusal::{Kind, Refused, Surprise},
    shop::Shop,
};

/// A saga of the shop. A build with the feature `testing` also asks for its samples.
pub trait ShopSaga: Saga<Step: DoneBy<Steps>> + Sampled {
    /// Whether it calls the payment gateway. Such sagas go on at once when the gateway answers again.
    const CALLS_GATEWAY: bool = false;

    /// The subject of its operations.
    const ABOUT: About = About::NoResource;

    /// The action that the customer must take while an instance is in this state.
    fn action(_: Self::State) -> Option<Action> {
        None
    }

    /// The reason why an operation failed, as the client of its command is told.
    ///
    /// # Errors
    /// It is a surprise.
    fn refused(_: Self::Reason) -> Result<Refused, Surprise> {
        Ok(undone())
    }
}

/// The subject of an operation. It decides who may read the operation, and what its result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Nothing that a client knows. Only staff may read the operation, and it has no result.
    NoResource,
    /// An order. Its customer may read the operation, and the order is the result.
    Order,
    /// A customer, who may read the operation. The result is the erasure.
    Customer,
    /// A payment method. Its customer may read the operation, and the method is the result.
    PaymentMethod,
}

/// An action that the customer must take before an operation can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Approve the payment.
    ApprovePayment {
        /// The page where the customer approves. Anyone who has the link can approve.
        url: String,
        /// The end of the gateway's patience.
        expires_at: Option<DateTime<Utc>>,
    },
}

/// The refusal of an operation that was undone without a reason of its own.
fn undone() -> Refused {
    Refused::new(Kind::Conflict, "operation_failed", "The operation was undone.")
}

/// A saga in the list of all sagas, without its type.
pub trait Listed: Sync {
    /// The saga's name.
    fn name(&self) -> &'static str;

    /// [`ShopSaga::CALLS_GATEWAY`].
    fn calls_gateway(&self) -> bool;

    /// [`ShopSaga::ABOUT`].
    fn about(&self) -> About;

    /// Adds the saga to an engine.
    fn add_to_engine(
        &self,
        engine: EngineBuilder,
        shop: &Arc<Shop>,
        pool: &PgPool,
    ) -> EngineBuilder;

    /// Adds the saga to a deploy gate.
    fn add_to_gate(&self, gate: Gate) -> Gate;

    /// [`ShopSaga::action`] for a state as it is stored. `None` also if this version cannot read the state.
    fn action(&self, state: Value) -> Option<Action>;

    /// [`ShopSaga::refused`] for a reason as it is stored. A reason that this version cannot read is told as none.
    ///
    /// # Errors
    /// It is a surprise.
    fn refused(&self, reason: Option<Value>) -> Result<Refused, Surprise>;

    /// For tests: explores the saga.
    #[cfg(feature = "testing")]
    fn explore(&self) -> Map;

    /// For tests: compares what the saga stores with its golden files.
    #[cfg(feature = "testing")]
    fn golden(&self, folder: &str);
}

impl<S: ShopSaga + Sync> Listed for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn calls_gateway(&self) -> bool {
        S::CALLS_GATEWAY
    }

    fn about(&self) -> About {
        S::ABOUT
    }

    fn add_to_engine(
        &self,
        engine: EngineBuilder,
        shop: &Arc<Shop>,
        pool: &PgPool,
    ) -> EngineBuilder {
        engine.saga::<S, _>(Steps::new(shop.clone(), pool.clone()))
    }

    fn add_to_gate(&self, gate: Gate) -> Gate {
        gate.knows::<S>()
    }

    fn action(&self, state: Value) -> Option<Action> {
        S::action(serde_json::from_value(state).ok()?)
    }

    fn refused(&self, reason: Option<Value>) -> Result<Refused, Surprise> {
        let reason = reason.and_then(|reason| serde_json::from_value(reason).ok());
        reason.map_or_else(|| Ok(undone()), S::refused)
    }

    #[cfg(feature = "testing")]
    fn explore(&self) -> Map {
        testing::explore::<S>()
    }

    #[cfg(feature = "testing")]
    fn golden(&self, folder: &str) {
        testing::golden::<S>(folder);
    }
}
