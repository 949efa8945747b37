//! The shop that commands run in: what its owner decided, and its doors to the outside world.

pub mod config;
pub mod mail;
pub mod password;

use std::{fmt, sync::Arc};

use config::Config;
use mail::Mailer;
use password::PasswordPool;

use crate::{payment::gateway::PaymentGateway, privacy::KeyStore};

/// Handed to every command. One per process, shared by reference.
pub struct Shop {
    /// What the owner decided.
    pub config: Config,
    /// Where the customers' keys are kept.
    pub keys: Arc<dyn KeyStore>,
    /// Who moves the money.
    pub gateway: Arc<dyn PaymentGateway>,
    /// Who delivers mail.
    pub mailer: Arc<dyn Mailer>,
    /// Hashes passwords, two at a time.
    pub passwords: PasswordPool,
}

impl Shop {
    /// Opens a shop with these decisions and doors.
    pub fn new(
        config: Config,
        keys: Arc<dyn KeyStore>,
        gateway: Arc<dyn PaymentGateway>,
        mailer: Arc<dyn Mailer>,
    ) -> Self {
        Self { config, keys, gateway, mailer, passwords: PasswordPool::default() }
    }
}

impl fmt::Debug for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shop").field("config", &self.config).finish_non_exhaustive()
    }
}
