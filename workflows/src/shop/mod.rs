//! The shop that commands run in: its owner's decisions, and its ports to the outside world.

pub mod cause;
pub(crate) mod column;
pub mod config;
pub mod context;
pub mod mail;
pub mod password;
pub mod reaction;
pub(crate) mod record;

use std::{fmt, sync::Arc};

pub use cause::{Actor, Cause};
use config::Config;
pub use context::Context;
use mail::Mailer;
use password::PasswordPool;
use reaction::Reactions;

use crate::{
    payment::{gateway::PaymentGateway, paypal::PayPalApprovals},
    privacy::KeyStore,
};

/// Handed to every command. One per process, shared by reference.
pub struct Shop {
    /// The owner's decisions.
    pub config: Config,
    /// Where the customers' keys are kept.
    pub keys: Arc<dyn KeyStore>,
    /// The payment gateway.
    pub gateway: Arc<dyn PaymentGateway>,
    /// The approvals of customers at PayPal. `None`: the shop takes no payments by PayPal.
    pub paypal: Option<Arc<dyn PayPalApprovals>>,
    /// The mail system.
    pub mailer: Arc<dyn Mailer>,
    /// Hashes passwords, two at a time.
    pub passwords: PasswordPool,
    /// Says what follows from an event: [`crate::reactions::of_event`], which knows the sagas, as no aggregate does.
    pub(crate) reactions: Reactions,
}

impl Shop {
    /// Opens a shop with these decisions and ports.
    pub fn new(
        config: Config,
        keys: Arc<dyn KeyStore>,
        gateway: Arc<dyn PaymentGateway>,
        mailer: Arc<dyn Mailer>,
        reactions: Reactions,
    ) -> Self {
        let passwords = PasswordPool::default();
        Self { config, keys, gateway, paypal: None, mailer, passwords, reactions }
    }

    /// The same shop, which takes payments by PayPal as well. Its gateway passes those of PayPal on.
    #[must_use]
    pub fn with_paypal(self, paypal: Arc<dyn PayPalApprovals>) -> Self {
        Self { paypal: Some(paypal), ..self }
    }
}

impl fmt::Debug for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shop").field("config", &self.config).finish_non_exhaustive()
    }
}
