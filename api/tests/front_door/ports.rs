//! The outside world of these tests: mail in memory, and a gateway that never answers.

use std::sync::{Mutex, MutexGuard};

use stepwise_workflows::{
    money::Money,
    payment::gateway::{
        Attachment, Authorization, Cancellation, Capture, Charge, Confirmation, Creation,
        GatewayError, MadeRefund, MethodToken, PaymentGateway, Reference, Refund, Trouble,
    },
    shop::mail::{Mail, MailError, Mailer},
};
use uuid::Uuid;

/// A mailer that keeps mail in memory.
#[derive(Default)]
pub(crate) struct Letters(Mutex<Vec<Mail>>);

/// A gateway that never answers, so that orders stay `placing`.
pub(crate) struct Nobody;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a test does not panic here")
}

impl Letters {
    /// The text of the last mail to this address.
    pub(crate) fn last_to(&self, address: &str) -> Option<String> {
        locked(&self.0).iter().rev().find(|mail| mail.to == address).map(|mail| mail.text.clone())
    }
}

#[async_trait::async_trait]
impl Mailer for Letters {
    async fn send(&self, _: &str, mail: &Mail) -> Result<(), MailError> {
        locked(&self.0).push(mail.clone());
        Ok(())
    }

    async fn forget(&self, address: &str) -> Result<u64, MailError> {
        let mut mails = locked(&self.0);
        let before = mails.len();
        mails.retain(|mail| mail.to != address);
        Ok((before - mails.len()) as u64)
    }
}

fn nobody<T>() -> Result<T, GatewayError> {
    Err(GatewayError::NotDone(Trouble::Unreachable))
}

#[async_trait::async_trait]
impl PaymentGateway for Nobody {
    async fn create(&self, _: &str, _: &Charge) -> Result<Creation, GatewayError> {
        nobody()
    }
    async fn confirm(&self, _: &str, _: &Reference) -> Result<Confirmation, GatewayError> {
        nobody()
    }
    async fn find(&self, _: &Reference) -> Result<Option<Authorization>, GatewayError> {
        nobody()
    }
    async fn find_by_key(&self, _: Uuid, _: &str) -> Result<Option<Authorization>, GatewayError> {
        nobody()
    }
    async fn cancel(&self, _: &str, _: &Reference) -> Result<Cancellation, GatewayError> {
        nobody()
    }
    async fn find_void(&self, _: &Reference) -> Result<Option<Cancellation>, GatewayError> {
        nobody()
    }
    async fn capture(&self, _: &str, _: &Reference, _: Money) -> Result<Capture, GatewayError> {
        nobody()
    }
    async fn refund(&self, _: &str, _: &Reference, _: Money) -> Result<Refund, GatewayError> {
        nobody()
    }
    async fn find_refund(&self, _: &str, _: &Reference) -> Result<Option<Refund>, GatewayError> {
        nobody()
    }
    async fn open_customer(&self, _: &str, _: Uuid) -> Result<Creation, GatewayError> {
        nobody()
    }

    async fn attach(
        &self,
        _: &str,
        _: &MethodToken,
        _: &Reference,
    ) -> Result<Attachment, GatewayError> {
        nobody()
    }

    async fn detach(&self, _: &str, _: &MethodToken) -> Result<(), GatewayError> {
        nobody()
    }

    async fn delete_customer(&self, _: &Reference) -> Result<(), GatewayError> {
        nobody()
    }

    async fn refunds(&self, _: &Reference) -> Result<Vec<MadeRefund>, GatewayError> {
        nobody()
    }
}
