//! `stepwise gateway`: runs the sandbox payment gateway in a process of its own.
//!
//! The gateway shares only a key and the webhook secret with the shop. Its ledger and its note are in
//! the data folder, so that it starts again at the same port with the same ledger.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::Duration,
};

use clap::Args as ClapArgs;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use stepwise_adapters::sandbox::{Sandbox, SandboxConfig, Timing, WebhookConfig};

use super::{Failure, Shutdown, folder::Folder, parts, settings::Settings};

/// The route of the front door that takes the gateway's webhooks.
pub(super) const WEBHOOK_PATH: &str = "/v1/webhooks/gateway";
/// The route of the front door that takes PayPal's webhooks.
const PAYPAL_WEBHOOK_PATH: &str = "/v1/webhooks/paypal";
/// The ledger's file in the data folder.
pub(super) const LEDGER: &str = "gateway-ledger.jsonl";
const NOTE: &str = "gateway.json";
const LOCK: &str = "gateway.lock";

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Address to listen on [default: the address of the last start, at first a free port on 127.0.0.1]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// URL that receives webhooks [default: the shop at --host and --port]. Those of PayPal go to /v1/webhooks/paypal there
    #[arg(long, value_name = "URL")]
    webhooks_to: Option<Url>,
    /// File of the ledger [default: gateway-ledger.jsonl in the data directory]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Seconds for which an idempotency key is remembered [default: 86400]
    #[arg(long, value_name = "SECONDS")]
    forget_keys_after: Option<u32>,
    /// Seconds after which reserved money that nobody captured is released [default: 604800]
    #[arg(long, value_name = "SECONDS")]
    release_after: Option<u32>,
}

impl Args {
    fn timing(&self) -> Timing {
        let usual = Timing::default();
        let or = |given: Option<u32>, usual| given.map_or(usual, |s| Duration::from_secs(s.into()));
        Timing {
            keys: or(self.forget_keys_after, usual.keys),
            authorization: or(self.release_after, usual.authorization),
            ..usual
        }
    }
}

/// The file in which a running gateway publishes its process and address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// The gateway's process id. Valid only while the gateway holds its lock.
    pub(super) pid: u32,
    /// The address on which it listens.
    pub(super) address: SocketAddr,
    /// The URL that receives its webhooks.
    pub(super) webhooks_to: String,
    /// The build of the program that it runs.
    pub(super) program: String,
}

impl Note {
    /// Reads the note in this folder. Its gateway may have ended.
    pub(super) fn read(folder: &Folder) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(NOTE)).ok()?).ok()
    }

    /// The gateway's base address.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A lock that a gateway holds while it runs.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Takes the lock. `None` if a running gateway holds it.
    pub(super) fn take(folder: &Folder) -> Result<Option<Self>, Failure> {
        let path = folder.join(LOCK);
        let cannot = |error: std::io::Error| {
            Failure::failed(&format!("cannot lock {}", path.display()), error)
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(cannot(error)),
        }
    }
}

/// Identifies this build of the program, so that a gateway of an older build is replaced.
pub(super) fn program() -> String {
    let file = std::fs::metadata("/proc/self/exe")
        .or_else(|_| std::env::current_exe().and_then(std::fs::metadata));
    let modified = file.as_ref().ok().and_then(|file| file.modified().ok());
    let modified = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let (bytes, at) =
        (file.map_or(0, |file| file.len()), modified.map_or(0, |since| since.as_millis()));
    format!("{} {bytes} {at}", env!("CARGO_PKG_VERSION"))
}

/// Runs the gateway until the process is told to stop.
pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signal()?;
    let folder = Folder::open(&settings.data_dir)?;
    let Some(_lock) = Lock::take(&folder)? else {
        return Err(Failure::failed(
            "another sandbox gateway uses this data directory",
            "stop it, or choose another with --data-dir",
        ));
    };
    let secrets = folder.secrets()?;
    let key = settings.gateway_key.clone().unwrap_or_else(|| secrets.gateway_key.into());
    let secret = settings.webhook_secret.clone().unwrap_or_else(|| secrets.webhook_secret.into());
    let timing = args.timing();
    let webhooks_to = match args.webhooks_to {
        Some(url) => url,
        None => format!("{}{WEBHOOK_PATH}", parts::local_url(settings))
            .parse()
            .map_err(|_| Failure::usage("--host is not a valid host"))?,
    };
    let ledger = args.ledger.unwrap_or_else(|| folder.join(LEDGER));
    let paypal_webhooks_to = webhooks_to.join(PAYPAL_WEBHOOK_PATH).ok();
    let config = |listen| SandboxConfig {
        listen,
        ledger: ledger.clone(),
        api_key: key.clone(),
        public_url: None,
        webhooks: Some(WebhookConfig {
            url: webhooks_to.clone(),
            secrets: vec![secret.clone()],
            events: Vec::new(),
            paypal: paypal_webhooks_to.clone(),
        }),
        timing,
    };
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let noted = Note::read(&folder).map(|note| note.address);
    let bound = match (args.listen, noted) {
        (Some(listen), _) => Sandbox::bind(config(listen)).await,
        (None, None) => Sandbox::bind(config(free)).await,
        (None, Some(noted)) => match Sandbox::bind(config(noted)).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                Sandbox::bind(config(free)).await
            }
            bound => bound,
        },
    };
    let sandbox = bound.map_err(|error| {
        Failure::failed(
            "the sandbox gateway cannot start",
            format!("{error}; its ledger is {}", ledger.display()),
        )
    })?;
    let note = Note {
        pid: std::process::id(),
        address: sandbox.address(),
        webhooks_to: webhooks_to.into(),
        program: program(),
    };
    folder.write_private(NOTE, &note)?;
    // The gateway serves whether or not this line can be written.
    let _ =
        writeln!(io::stdout(), "sandbox gateway at {}, ledger {}", note.url(), ledger.display());
    sandbox
        .serve(shutdown.token().cancelled_owned())
        .await
        .map_err(|error| Failure::failed("the sandbox gateway failed", error))
}
