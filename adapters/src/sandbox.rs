//! A sandbox payment gateway for trials and tests, with a process and a ledger of its own and the APIs of Stripe and PayPal.
//!
//! It implements the subsets of the APIs that [`crate::gateway`] and [`crate::paypal`] use, as strictly as these: it refuses unknown
//! parameters, forgets keys after a day and lets authorizations lapse after a week. It moves no real money. It misbehaves on demand: the
//! payment method's token chooses how, and on which operation (see [`SandboxMethod`]). Payments at PayPal have no such token; they
//! misbehave with all others, by `/sandbox/misbehave`. Every decision is a line of the [`ledger`], which is on the disk
//! before the answer is sent. After a restart, kill -9 included, the gateway continues from these lines.
//!
//! The gateway shares nothing with the shop, so its ledger is an independent witness: it shows what a real gateway would
//! have done with a customer's money.
//!
//! One lock guards the book, for microseconds at a time. The wait for the disk is outside the lock, and requests that
//! arrive at the same time share it. Cost per change: one line and a share of a write to disk.
//!
//! Deliberately absent: everything else that the providers can do, and any security beyond the API key, because the gateway is
//! meant for loopback and closed networks.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::book::{Ask, Book, Decision, Intent, Refusal, Subject};
use self::ledger::writer::{Closed, Durable, Writer};
use self::ledger::{Line, LineResult, Op};
pub use self::method::SandboxMethod;
pub use self::paypal::{PAYPAL_CLIENT_ID, PAYPAL_WEBHOOK_ID};
use self::wallet::Wallets;
pub use self::webhooks::WebhookConfig;
use self::webhooks::Webhooks;

mod answer;
mod approval;
mod book;
pub mod ledger;
mod method;
mod misbehave;
mod params;
mod paypal;
mod server;
mod wallet;
mod webhooks;
mod wire;

#[cfg(test)]
mod tests;

/// How old an approval may be for its webhook to be sent again at a restart.
const APPROVALS_AGAIN: TimeDelta = TimeDelta::hours(1);

/// The settings of a sandbox gateway.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The address to listen on. Port 0 takes a free port.
    pub listen: SocketAddr,
    /// The ledger file, which is created if it is missing.
    pub ledger: PathBuf,
    /// The key that the shop must send as `Authorization: Bearer`. At PayPal it is the secret of the client [`PAYPAL_CLIENT_ID`].
    pub api_key: SecretString,
    /// The address at which customers reach the approval pages. `None` for the address to listen on.
    pub public_url: Option<String>,
    /// The settings of webhooks. `None` for no webhooks.
    pub webhooks: Option<WebhookConfig>,
    /// The waits of the methods that misbehave, and what the gateway forgets by itself.
    pub timing: Timing,
}

/// The waits of the methods that misbehave, and what the gateway forgets by itself.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The time after which `slow` answers. 2 s by default.
    pub slow: Duration,
    /// The time from the caller's giving up to the act of `actsLate`, and from accepting a refund to settling it. 10 s by default.
    pub acts_late: Duration,
    /// The time after which a connection without an answer is ended. 120 s by default.
    pub hold: Duration,
    /// The time for which an idempotency key is remembered. 24 h by default.
    pub keys: Duration,
    /// The time after which reserved money that nobody captured is released. 7 days by default.
    pub authorization: Duration,
    /// The time for which an access token of PayPal is valid, until a restart at most. 9 h by default.
    pub tokens: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            slow: Duration::from_secs(2),
            acts_late: Duration::from_secs(10),
            hold: Duration::from_secs(120),
            keys: Duration::from_hours(24),
            authorization: Duration::from_hours(7 * 24),
            tokens: Duration::from_hours(9),
        }
    }
}

/// A sandbox gateway that has read its ledger and listens.
pub struct Sandbox {
    listener: TcpListener,
    address: SocketAddr,
    gateway: Arc<Gateway>,
    /// Approvals whose webhooks may not have been delivered before the restart.
    approvals: Vec<(u64, Line)>,
}

/// Runs the gateway until `shutdown`. Lines that are being written are completed first.
pub async fn serve(
    config: SandboxConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    Sandbox::bind(config).await?.serve(shutdown).await
}

impl Sandbox {
    /// Reads the ledger and starts to listen. Fails if the address or the ledger is in use, or if the ledger
    /// cannot be read.
    pub async fn bind(config: SandboxConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let opened = tokio::task::spawn_blocking(move || Gateway::open(config, address)).await;
        let (gateway, approvals) = opened.map_err(io::Error::other)??;
        Ok(Self { listener, address, gateway: Arc::new(gateway), approvals })
    }

    /// The address on which the gateway listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves requests until `shutdown`.
    pub async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let gateway = Arc::clone(&self.gateway);
        let closing = gateway.closing.clone();
        gateway.tell_again(&self.approvals);
        let acts = Arc::clone(&gateway).act_by_itself();
        gateway.tasks.spawn(gateway.closing.clone().run_until_cancelled_owned(acts));
        let served = server::run(self.listener, self.gateway, async move {
            shutdown.await;
            closing.cancel();
        })
        .await;
        gateway.closing.cancel();
        gateway.tasks.close();
        gateway.tasks.wait().await;
        let writer = gateway.state().writer.take();
        if let Some(writer) = writer {
            tokio::task::spawn_blocking(|| writer.close()).await.map_err(io::Error::other)?;
        }
        served
    }
}

/// The gateway, as handlers take it.
type Shared = axum::extract::State<Arc<Gateway>>;

/// The state that all requests share.
struct Gateway {
    state: Mutex<Ledgered>,
    durable: Durable,
    webhooks: Option<Webhooks>,
    api_key: SecretString,
    /// Signs the access tokens of this process.
    token_key: [u8; 32],
    public_url: String,
    timing: Timing,
    down: AtomicBool,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// The book with its ledger, through which it is changed.
struct Ledgered {
    book: Book,
    /// The ledger's writer. `None` once the ledger is closed.
    writer: Option<Writer>,
    /// The requests that will act later.
    late: HashSet<String>,
    /// The addresses to which customers return from the approval pages of PayPal, by reference. Forgotten at a restart.
    returns: HashMap<String, paypal::Returns>,
    wallets: Wallets,
}

/// The result of a request: the authorization's reference and what happened to it.
struct Done {
    reference: Arc<str>,
    result: LineResult,
}

/// The reason why a request had no effect.
enum Stopped {
    Refused(Refusal),
    Closed,
}

impl From<Closed> for Stopped {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl Gateway {
    /// Rebuilds the gateway's state from its ledger. Also returns the latest approvals.
    fn open(config: SandboxConfig, address: SocketAddr) -> io::Result<(Self, Vec<(u64, Line)>)> {
        let (writer, durable, lines) = Writer::open(&config.ledger)?;
        let mut book = Book::new(span(config.timing.keys));
        let mut approvals = Vec::new();
        let recent = Utc::now() - APPROVALS_AGAIN;
        for (number, line) in (1..).zip(lines) {
            book.apply(&line, number).ok_or_else(|| {
                let text = format!("line {number} of the ledger contradicts those before it");
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            if line.op == Op::Approve && line.at > recent {
                approvals.push((number, line));
            }
        }
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let webhooks = config
            .webhooks
            .map(|hooks| Webhooks::start(hooks, &config.api_key, durable.clone(), &closing, &tasks))
            .transpose()
            .map_err(io::Error::other)?;
        let gateway = Self {
            state: Mutex::new(Ledgered {
                book,
                writer: Some(writer),
                late: HashSet::new(),
                returns: HashMap::new(),
                wallets: Wallets::default(),
            }),
            token_key: rand::random(),
            durable,
            webhooks,
            api_key: config.api_key,
            public_url: config.public_url.unwrap_or_else(|| format!("http://{address}")),
            timing: config.timing,
            down: AtomicBool::new(false),
            closing,
            tasks,
        };
        Ok((gateway, approvals))
    }

    fn state(&self) -> MutexGuard<'_, Ledgered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    fn view(&self, expand: bool) -> wire::View<'_> {
        wire::View { public_url: &self.public_url, expand }
    }

    /// Decides about a request, writes the line and applies it. Returns once the line is on the disk; the webhook is queued.
    async fn commit(&self, ask: &Ask<'_>) -> Result<Done, Stopped> {
        let (done, line) = self.decide(ask)?;
        self.durable.wait(line).await?;
        Ok(done)
    }

    fn decide(&self, ask: &Ask<'_>) -> Result<(Done, u64), Stopped> {
        let mut state = self.state();
        let Ledgered { book, writer, .. } = &mut *state;
        let line = match book.decide(ask, Utc::now()) {
            Decision::Refuse(refusal) => return Err(Stopped::Refused(refusal)),
            Decision::Again(reference, result) => {
                let line = book.intent(&reference).map_or(0, |intent| intent.line);
                return Ok((Done { reference, result }, line));
            }
            Decision::Write(line) => line,
        };
        let number = writer.as_mut().ok_or(Stopped::Closed)?.append(&line)?;
        book.apply(&line, number).expect("what was decided from the book fits into it");
        book.note(ask);
        let intent = book.intent(&line.reference).expect("it was just applied");
        let twice = book.method(ask) == Some(SandboxMethod::Twice);
        self.tell(intent, &line, number, if twice { 2 } else { 1 });
        let reference = Arc::clone(&intent.reference);
        Ok((Done { reference, result: line.result }, number))
    }

    /// Shows an authorization once all its lines are on the disk.
    async fn read<T>(&self, reference: &str, show: impl FnOnce(Option<&Intent>) -> T) -> T {
        let (shown, line) = {
            let state = self.state();
            let intent = state.book.intent(reference);
            (show(intent), intent.map_or(0, |intent| intent.line))
        };
        // A closed ledger ends the process; the authorization shown is from before that.
        let _ = self.durable.wait(line).await;
        shown
    }

    /// Lets authorizations lapse and settles pending refunds, when it is time.
    async fn act_by_itself(self: Arc<Self>) {
        let Timing { acts_late, authorization, .. } = self.timing;
        let shortest = acts_late.min(authorization) / 4;
        let pause = shortest.clamp(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            tokio::time::sleep(pause).await;
            let mut acts = Vec::new();
            {
                let (mut state, now) = (self.state(), Utc::now());
                while let Some(reference) = state.book.lapsed(now - span(authorization)) {
                    acts.push((Op::Expire, reference, "".into()));
                }
                while let Some((reference, key)) = state.book.unsettled(now - span(acts_late)) {
                    acts.push((Op::Settle, reference, key));
                }
            }
            for (op, reference, key) in acts {
                let subject = Subject::Refund(&reference);
                let ask = Ask { op, key: &key, subject, amount: None, fingerprint: None };
                // A refusal: it was captured, voided or settled meanwhile.
                let _done = self.commit(&ask).await;
            }
        }
    }

    fn tell(&self, intent: &Intent, line: &Line, number: u64, copies: usize) {
        let Some(webhooks) = &self.webhooks else { return };
        if intent.is_paypal() {
            if let Some(event) = paypal::event(&self.public_url, intent, line, number) {
                webhooks.tell_of_paypal(&event, number, copies);
            }
            return;
        }
        let Some(kind) = webhooks.kind(line.result) else { return };
        match line.result {
            LineResult::Refunded | LineResult::RefundPending => {
                webhooks.tell(kind, number, line.at, wire::charge(intent), copies);
            }
            LineResult::RefundSettled | LineResult::RefundFailed => {
                let made = intent.refunds.iter().rposition(|made| *made.key == *line.key);
                if let Some(index) = made {
                    let refund = wire::refund(intent, index, &intent.refunds[index]);
                    webhooks.tell(kind, number, line.at, refund, copies);
                }
            }
            result => {
                let object = self.view(true).intent(intent, Some(result));
                webhooks.tell(kind, number, line.at, object, copies);
            }
        }
    }

    fn tell_again(&self, lines: &[(u64, Line)]) {
        let state = self.state();
        for (number, line) in lines {
            if let Some(intent) = state.book.intent(&line.reference) {
                self.tell(intent, line, *number, 1);
            }
        }
    }
}

/// A time of the configuration, as the book counts it; a hundred years at most.
fn span(time: Duration) -> TimeDelta {
    let most = TimeDelta::days(36_500);
    TimeDelta::from_std(time).map_or(most, |span| span.min(most))
}
