//! TLS: if the address requires it, an observer of the network can read nothing.

use std::{path::PathBuf, process::Stdio, sync::Arc};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use stepwise_engine::testing::Database;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::site::{PATIENCE, Site};

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 22;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls").join(name)
}

/// Accepts one connection, answers the client's first message, and returns everything that the client sends after that.
async fn record(answer: Option<u8>) -> (u16, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let recorded = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client comes");
        let mut bytes = vec![0; 4096];
        if let Some(answer) = answer {
            // Postgres' SSLRequest.
            client.read_exact(&mut bytes[..8]).await.expect("it asks for TLS");
            client.write_all(&[answer]).await.expect("it listens");
        }
        let read = client.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(read);
        bytes
    });
    (port, recorded)
}

/// A server that speaks TLS as `localhost` and forwards everything to `backend`.
async fn tls_before(backend: String) -> u16 {
    let certificates = CertificateDer::pem_file_iter(fixture("server.pem")).expect("it is there");
    let certificates = certificates.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows them")
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .expect("they belong together");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, backend) = (acceptor.clone(), backend.clone());
            tokio::spawn(async move {
                // Either side may close at any moment.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let Ok(mut server) = TcpStream::connect(&backend).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

/// The log line in which a relay reports whether it has connected to the broker at this address.
async fn relay(site: &Site, database_url: &str, amqp_url: &str, authority: bool) -> String {
    let args = ["relay", "--database-url", database_url, "--amqp-url", amqp_url];
    let mut command = site.command(&args);
    if authority {
        command.env("SSL_CERT_FILE", fixture("authority.pem"));
    }
    command.stdout(Stdio::null());
    let mut child =
        command.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let said = async {
        let mut all = String::new();
        while let Some(line) = lines.next_line().await.expect("UTF-8") {
            if line.contains("connected to RabbitMQ") || line.contains("without the broker") {
                return line;
            }
            all.push_str(&line);
        }
        panic!("it ended: {all}")
    };
    tokio::time::timeout(PATIENCE, said).await.expect("it says so in time")
}

/// A database with the schema and without customers.
async fn database(site: &Site) -> Database {
    let database = Database::fresh(&[]).await;
    let mut migrate = site.command(&["migrate", "--database-url", &database.url()]);
    let migrated = migrate.stdout(Stdio::null()).status().await;
    assert!(migrated.expect("the binary starts").success());
    database
}

/// Fault: broker: something listens at an `amqps://` address that does not speak TLS, or has no valid certificate
/// Customer: nothing; events wait
/// Operator: the log says that the broker cannot be reached and why; no readable byte leaves the machine
/// Within: 5 s
/// Ends: when the broker's certificate is valid for the host (an authority of one's own: `SSL_CERT_FILE`)
#[tokio::test]
async fn amqps_is_tls_and_the_password_is_never_readable() {
    let site = Site::new();
    let database = database(&site).await;
    let (port, recorded) = record(None).await;
    let url = format!("amqps://guest:hush-hush@localhost:{port}/%2f");
    let line = relay(&site, &database.url(), &url, false).await;
    assert!(line.contains("without the broker") && !line.contains("hush"), "{line}");
    let wire = recorded.await.expect("recorded");
    let text = String::from_utf8_lossy(&wire);
    assert_eq!(wire.first(), Some(&HANDSHAKE), "{text}");
    assert!(!text.contains("AMQP") && !text.contains("hush"), "{text}");

    let plain = std::env::var("AMQP_URL").expect("./scripts/test starts a RabbitMQ");
    let (user, server) = plain.trim_start_matches("amqp://").rsplit_once('@').expect("a user");
    let (backend, vhost) = server.split_once('/').expect("a virtual host");
    let port = tls_before(backend.to_owned()).await;
    for (host, authority, is_reached) in
        [("localhost", true, true), ("localhost", false, false), ("127.0.0.1", true, false)]
    {
        let url = format!("amqps://{user}@{host}:{port}/{vhost}");
        let line = relay(&site, &database.url(), &url, authority).await;
        assert_eq!(line.contains("connected to RabbitMQ"), is_reached, "{line}");
        assert_eq!(line.contains("ertificate"), !is_reached, "{line}");
    }
    database.close().await;
}

/// Fault: database: a server without TLS answers at an address with `sslmode=require` or `verify-full`
/// Customer: nothing
/// Operator: the process does not start, exit code 3; nothing but the question for TLS was sent
/// Within: 5 s
/// Ends: when the server speaks TLS
#[tokio::test]
async fn a_database_that_must_be_reached_by_tls_is_told_nothing_without_it() {
    let site = Site::new();
    for mode in ["require", "verify-full"] {
        for (answer, first) in [(b'N', None), (b'S', Some(&HANDSHAKE))] {
            let (port, recorded) = record(Some(answer)).await;
            let url = format!("postgres://me:hush-hush@localhost:{port}/shop?sslmode={mode}");
            let (code, line) = site.refusal(&["check", "--database-url", &url]).await;
            assert_eq!(code, 3, "{mode}: {line}");
            let wire = recorded.await.expect("recorded");
            assert_eq!(wire.first(), first, "{mode}: {}", String::from_utf8_lossy(&wire));
            assert!(!String::from_utf8_lossy(&wire).contains("shop"), "{mode}");
        }
    }
}

#[tokio::test]
async fn smtps_is_tls_and_the_password_is_never_readable() {
    let site = Site::new();
    let (port, recorded) = record(None).await;
    let url = format!("smtps://shop:hush-hush@localhost:{port}");
    let args = ["doctor", "--smtp-url", &url, "--mail-from", "shop@example.org"];
    let examined = site.command(&args).stderr(Stdio::null()).output().await;
    let said = String::from_utf8(examined.expect("the binary starts").stdout).expect("UTF-8");
    assert!(said.contains("fail  mail") && !said.contains("hush"), "{said}");
    let wire = recorded.await.expect("recorded");
    let text = String::from_utf8_lossy(&wire);
    assert_eq!(wire.first(), Some(&HANDSHAKE), "{text}");
    assert!(!text.contains("EHLO") && !text.contains("hush"), "{text}");
}

#[tokio::test]
async fn a_gateway_on_another_machine_is_not_called_in_clear() {
    let site = Site::new();
    let url = "http://gateway.example";
    let (code, line) = site.refusal(&["serve", "--gateway-url", url]).await;
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("https://") && line.contains("--plain-network"), "{line}");
    let allowed = ["serve", "--gateway-url", url, "--plain-network"];
    let (_, line) = site.refusal(&allowed).await;
    assert!(line.contains("--database-url"), "the next thing is asked for: {line}");
}
