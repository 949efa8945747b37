//! The sandbox gateway alone: `cargo run -p stepwise-adapters --example sandbox -- 127.0.0.1:9090 ledger.jsonl sk_test`.

use std::error::Error;

use stepwise_adapters::sandbox::{SandboxConfig, Timing, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(ledger), Some(api_key)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: sandbox <address> <ledger file> <API key>".into());
    };
    let config = SandboxConfig {
        listen: listen.parse()?,
        ledger: ledger.into(),
        api_key: api_key.into(),
        public_url: None,
        webhooks: None,
        timing: Timing::default(),
    };
    Ok(serve(config, std::future::pending()).await?)
}
