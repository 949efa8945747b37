//! Doctor's checks of the data folder, the mail server, the payment gateways and the broker.

use std::{path::Path, sync::Arc, time::Duration};

use reqwest::Url;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use serde_json::Value;
use stepwise_adapters::tls;

use super::{
    super::{
        broker, database,
        folder::Folder,
        keys, mail,
        settings::{Settings, is_this_machine},
        shop::{GatewayAddress, host_and_port},
    },
    Finding, key_store, on_disk,
};

/// How long the gateway may take to answer a request.
const GATEWAY: Duration = Duration::from_secs(3);
/// How long a running `up` may take to report the state of its gateway.
const UP: Duration = Duration::from_secs(2);
/// The least free disk space, in bytes, that is not reported as a fault.
const ROOM: u64 = 1 << 30;

/// Checks the data folder and its disk.
pub(super) async fn folder(settings: &Settings) -> Vec<Finding> {
    let found = on_disk(settings, examine_folder).await;
    found.unwrap_or_else(|reason| vec![Finding::fail("data folder", reason)])
}

fn examine_folder(settings: &Settings) -> Vec<Finding> {
    let at = settings.data_dir.display();
    let Some(folder) = Folder::find(&settings.data_dir) else {
        return vec![Finding::fail(
            "data folder",
            format!("there is no data folder at {at}; give the --data-dir of this installation"),
        )];
    };
    let free = rustix::fs::statvfs(folder.path()).map(|it| it.f_bavail.saturating_mul(it.f_frsize));
    vec![
        match free {
            Ok(free) => disk(free, &at.to_string()),
            Err(error) => Finding::fail("disk", format!("the file system of {at}: {error}")),
        },
        writable(&folder, &settings.data_dir),
    ]
}

/// Checks whether the data folder and the key store in it can be written. The first process creates the key store.
fn writable(folder: &Folder, at: &Path) -> Finding {
    const WHAT: &str = "data folder";
    let keys = folder.join(keys::FOLDER);
    let mend = "it cannot be written: make it writable for the program's user";
    if keys.exists() && !is_writable(&keys) {
        return Finding::fail(WHAT, format!("{}; {mend}", keys.display()));
    }
    Finding::judged(WHAT, is_writable(folder.path()), at.display().to_string(), mend)
}

/// Checks whether mails can be sent: the mail server accepts a connection and the log-in, or the folder of mails can be written.
pub(super) async fn mail(settings: &Settings) -> Vec<Finding> {
    let server = match mail::server(settings) {
        Err(failure) => return vec![Finding::fail("mail", failure.to_string())],
        Ok(Some(server)) => server,
        Ok(None) => {
            let found = on_disk(settings, examine_mail_folder).await;
            return found.unwrap_or_else(|reason| vec![Finding::fail("mail", reason)]);
        }
    };
    vec![match server.look().await {
        Ok(()) => Finding::ok("mail", "the mail server accepts the connection"),
        Err(error) => Finding::fail(
            "mail",
            format!("{error}; mails wait: start the mail server or correct --smtp-url"),
        ),
    }]
}

fn examine_mail_folder(settings: &Settings) -> Vec<Finding> {
    let Some(folder) = Folder::find(&settings.data_dir) else { return Vec::new() };
    let files = mail::files(&folder);
    vec![Finding::judged(
        "mail",
        !files.exists() || is_writable(&files),
        format!("written to {}", files.display()),
        "it cannot be written, and no mail is sent: make it a folder that the program's user can write",
    )]
}

/// Checks the free space of the data folder's disk. The database of `up` is on the same disk; any other database is not.
fn disk(free: u64, at: &str) -> Finding {
    Finding::judged(
        "disk",
        free >= ROOM,
        format!("{} MiB free at {at}", free >> 20),
        "make room: keys, mail and the database of `stepwise up` are written there",
    )
}

/// Whether this process may create files in the folder. Writes nothing.
fn is_writable(folder: &Path) -> bool {
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    folder.is_dir() && accessat(CWD, folder, wanted, AtFlags::EACCESS).is_ok()
}

/// Checks whether the gateway, and PayPal if the shop uses it, answer a request of this program, and the requests of an `up` that runs in
/// this data folder.
pub(super) async fn gateway(settings: &Settings) -> Vec<Finding> {
    let address = match GatewayAddress::given(settings) {
        Err(failure) => return vec![Finding::fail("gateway", failure.to_string())],
        Ok(Some(given)) => given,
        Ok(None) => match on_disk(settings, noted_gateway).await {
            Ok(Some(noted)) => noted,
            Ok(None) => {
                let mend = "no gateway is known; give --gateway-url, or start `stepwise up` or `stepwise gateway`";
                return vec![Finding::fail("gateway", mend)];
            }
            Err(reason) => return vec![Finding::fail("gateway", reason)],
        },
    };
    let up = ask_up(settings, &address);
    let (cards, paypal, up) = tokio::join!(ask(address.cards()), ask_if(address.paypal()), up);
    let judge = |what, url: &Url, answered, mend: &str| {
        let (host, port) = host_and_port(url);
        let of_up = up.as_ref().and_then(|said| away(said, what));
        match (of_up, answered) {
            (Some(reason), _) => {
                Finding::fail(what, format!("{reason}, says the running `stepwise up`; {mend}"))
            }
            (None, Ok(())) => Finding::ok(what, format!("answers at {host}:{port}")),
            (None, Err(reason)) => {
                Finding::fail(what, format!("{reason} at {host}:{port}; {mend}"))
            }
        }
    };
    let cards = judge(
        "gateway",
        address.cards(),
        cards,
        "orders wait until the gateway answers: start it or correct --gateway-url",
    );
    let paypal = address.paypal().zip(paypal).map(|(url, answered)| {
        let mend = "orders that are paid with it wait until it answers: correct --paypal-url, or wait for PayPal";
        judge("paypal", url, answered, mend)
    });
    std::iter::once(cards).chain(paypal).collect()
}

/// The address of the gateway that was noted in the data folder.
fn noted_gateway(settings: &Settings) -> Option<GatewayAddress> {
    GatewayAddress::given_or_noted(settings, &Folder::find(&settings.data_dir)?).ok()
}

async fn ask_if(url: Option<&Url>) -> Option<Result<(), String>> {
    match url {
        Some(url) => Some(ask(url).await),
        None => None,
    }
}

/// Sends a request without a key. Every answer except a server error (status 500 and above) counts as success.
async fn ask(url: &Url) -> Result<(), String> {
    let client = tls::http_client(url.as_str(), GATEWAY, GATEWAY).build();
    let client = client.map_err(|_| "no TLS client can be made".to_owned())?;
    match client.get(url.clone()).send().await {
        Ok(answer) if answer.status().is_server_error() => {
            Err(format!("the answer is {}", answer.status()))
        }
        Ok(_) => Ok(()),
        Err(error) if error.is_timeout() => {
            Err(format!("no answer within {} s", GATEWAY.as_secs()))
        }
        Err(error) => Err(format!("no server answers ({})", root(&error))),
    }
}

/// The first cause of an error, such as a certificate that is not valid.
fn root(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => root(cause),
        None => error.to_string(),
    }
}

/// Asks the `up` of this data folder for the states of its parts. `None` if no `up` runs, or if it calls another gateway. Only the process
/// that calls a gateway knows how its calls end.
async fn ask_up(settings: &Settings, address: &GatewayAddress) -> Option<Value> {
    let note = on_disk(settings, |settings| {
        std::fs::read(Folder::find(&settings.data_dir)?.join("demo.json")).ok()
    });
    let note: Value = serde_json::from_slice(&note.await.ok()??).ok()?;
    if note["gatewayUrl"].as_str()? != address.to_string() {
        return None;
    }
    let base = note["baseUrl"].as_str()?;
    let client = tls::http_client(base, UP, UP).build().ok()?;
    let said = client.get(format!("{base}/readyz")).send().await.ok()?;
    serde_json::from_slice(&said.bytes().await.ok()?).ok()
}

/// The reason why a part is away, as `/readyz` has told it.
fn away<'a>(said: &'a Value, part: &str) -> Option<&'a str> {
    match said[part]["state"].as_str()? {
        "away" => said[part]["reason"].as_str(),
        _ => None,
    }
}

/// Checks whether the broker takes events.
pub(super) async fn broker(settings: &Settings) -> Vec<Finding> {
    let address = match broker::address(settings) {
        Ok(Some(address)) => address,
        // Whether that is right, only the database knows.
        Ok(None) => return Vec::new(),
        Err(failure) => return vec![Finding::fail("broker", failure.to_string())],
    };
    let keys = match key_store(settings).await {
        Ok(Some(keys)) => keys,
        Ok(None) => {
            return vec![Finding::fail("broker", "not checked, because there is no key store")];
        }
        Err(reason) => return vec![Finding::fail("broker", format!("not checked: {reason}"))],
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
        Err(_) => Finding::fail("broker", "not checked, because the database cannot be used"),
    };
    let network = Finding::judged(
        "network",
        is_private,
        "the broker".to_owned(),
        "its connection and password are not encrypted: use amqps://, or give --plain-network if the network is private",
    );
    if network.is_fine { vec![taken] } else { vec![taken, network] }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        io::{self, Write as _},
        os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
        process::Command,
    };

    use super::*;

    /// The folder that the test below, started as another user, judges.
    const JUDGED: &str = "STEPWISE_TEST_JUDGED_FOLDER";

    /// Root may write everywhere. If this test runs as root, it starts itself as another user.
    #[test]
    fn a_folder_that_this_user_cannot_write_is_named() {
        if let Some(judged) = std::env::var_os(JUDGED) {
            let folder = Folder::find(Path::new(&judged)).expect("everybody may enter it");
            let line = writable(&folder, folder.path());
            writeln!(io::stdout(), "verdict: {} {}", line.is_fine, line.detail)
                .expect("it is read");
            return;
        }
        let home = std::env::temp_dir().join(format!("stepwise-doctor-{}", uuid::Uuid::new_v4()));
        let keys = home.join(keys::FOLDER);
        fs::create_dir_all(&keys).expect("the temporary directory is writable");
        let verdict = |home_mode, keys_mode| {
            for (folder, mode) in [(&home, home_mode), (&keys, keys_mode)] {
                fs::set_permissions(folder, Permissions::from_mode(mode)).expect("it is ours");
            }
            let own_name = module_path!().split_once("::").expect("in a module").1;
            let own_name = format!("{own_name}::a_folder_that_this_user_cannot_write_is_named");
            // The other user may not be allowed to enter the folder of this program, so its path is not used.
            let mut itself = Command::new("/proc/self/exe");
            itself.args(["--exact", &own_name, "--nocapture"]).env(JUDGED, &home);
            if rustix::process::geteuid().is_root() {
                itself.uid(65_534).gid(65_534);
            }
            let done = itself.output().expect("it starts");
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            let (_, verdict) = said.split_once("verdict: ").expect(&said);
            verdict.lines().next().expect("one line").to_owned()
        };
        let (at, keys) = (home.display().to_string(), keys.display().to_string());
        let fault = "it cannot be written: make it writable for the program's user";
        assert_eq!(verdict(0o777, 0o777), format!("true {at}"));
        assert_eq!(verdict(0o777, 0o555), format!("false {keys}; {fault}"));
        assert_eq!(verdict(0o555, 0o777), format!("false {at}; {fault}"));
        fs::set_permissions(&home, Permissions::from_mode(0o700)).expect("it is ours");
        fs::remove_dir_all(&home).expect("it is ours");
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_named() {
        assert!(disk(ROOM, "/data").is_fine);
        let line = disk(700 << 20, "/data");
        assert!(
            !line.is_fine && line.detail.starts_with("700 MiB free at /data"),
            "{}",
            line.detail
        );
    }
}
