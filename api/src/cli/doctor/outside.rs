//! The data folder, the payment gateway and the broker.

use std::{path::Path, sync::Arc, time::Duration};

use stepwise_adapters::keystore::FileKeyStore;
use tokio::net::TcpStream;

use super::{
    super::{
        broker, database,
        folder::Folder,
        keys,
        settings::{Settings, is_this_machine},
        shop::GatewayAddress,
    },
    Finding,
};

/// For the gateway to accept a connection.
const GATEWAY: Duration = Duration::from_secs(2);

/// The data folder and the mail in it, as they are.
pub(super) fn folder(settings: &Settings) -> Vec<Finding> {
    let at = settings.data_dir.display();
    let Some(folder) = Folder::find(&settings.data_dir) else {
        return vec![Finding::fail(
            "data folder",
            format!("there is none at {at}; give the --data-dir of this installation"),
        )];
    };
    let mail = folder.join("mail");
    vec![
        Finding::judged(
            "data folder",
            is_writable(folder.path()),
            at.to_string(),
            "it cannot be written: make it writable for the program's user",
        ),
        Finding::judged(
            "mail",
            !mail.exists() || is_writable(&mail),
            format!("written to {}", mail.display()),
            "it cannot be written, and no mail is sent: make it a folder that the program's user can write",
        ),
    ]
}

/// By its permissions; nothing is written.
fn is_writable(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|it| it.is_dir() && !it.permissions().readonly())
}

/// Whether anybody accepts connections where the gateway should be.
pub(super) async fn gateway(settings: &Settings) -> Vec<Finding> {
    let address = match (GatewayAddress::given(settings), Folder::find(&settings.data_dir)) {
        (Err(failure), _) => return vec![Finding::fail("gateway", failure.to_string())],
        (Ok(Some(given)), _) => given,
        (Ok(None), folder) => {
            match folder.map(|folder| GatewayAddress::given_or_noted(settings, &folder)) {
                Some(Ok(noted)) => noted,
                Some(Err(_)) | None => {
                    let mend = "none is known; give --gateway-url, or start `stepwise up` or `stepwise gateway`";
                    return vec![Finding::fail("gateway", mend)];
                }
            }
        }
    };
    let (host, port) = address.host_and_port();
    let reached = TcpStream::connect((host.as_str(), port));
    vec![match tokio::time::timeout(GATEWAY, reached).await {
        Ok(Ok(_)) => Finding::ok("gateway", format!("answers at {host}:{port}")),
        _ => Finding::fail(
            "gateway",
            format!(
                "nobody answers at {host}:{port}; orders wait until somebody does: start it or correct --gateway-url"
            ),
        ),
    }]
}

/// Whether the broker takes events.
pub(super) async fn broker(settings: &Settings) -> Vec<Finding> {
    let address = match broker::address(settings) {
        Ok(Some(address)) => address,
        Ok(None) => {
            return vec![Finding::ok("broker", "none: events go out on /v1/events/stream only")];
        }
        Err(failure) => return vec![Finding::fail("broker", failure.to_string())],
    };
    let folder = Folder::find(&settings.data_dir);
    let keys = folder.map(|folder| FileKeyStore::find(&folder.join(keys::FOLDER)));
    let Some(Ok(Some(keys))) = keys else {
        return vec![Finding::fail("broker", "not asked without a key store")];
    };
    let url = settings.amqp_url.as_deref().and_then(|url| url.parse::<reqwest::Url>().ok());
    let is_here = url.as_ref().is_some_and(|url| is_this_machine(url.host_str()));
    let is_private =
        settings.plain_network || is_here || url.is_none_or(|url| url.scheme() == "amqps");
    let taken = match database::connect(settings, 1).await {
        Ok(db) => match broker::look(address, Arc::new(keys), db).await {
            Ok(takes) => Finding::ok("broker", takes),
            Err(failure) => Finding::fail("broker", failure.to_string()),
        },
        Err(_) => Finding::fail("broker", "not asked without a database"),
    };
    let network = Finding::judged(
        "network",
        is_private,
        "the broker".to_owned(),
        "its connection and password are in clear: use amqps://, or say --plain-network if the network is private",
    );
    if network.is_fine { vec![taken] } else { vec![taken, network] }
}
