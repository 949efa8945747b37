//! Mails by SMTP, to a small mail server of this test.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use stepwise_adapters::mail::SmtpMailer;
use stepwise_workflows::shop::mail::{Mail, MailError, Mailer as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    doctor::{doctor, wrong},
    site::{Site, eventually},
};

/// How the mail server answers MAIL, RCPT and the end of a mail. An empty answer closes the connection.
#[derive(Clone, Copy)]
struct Manners {
    sender: &'static str,
    recipient: &'static str,
    mail: &'static str,
    /// How long the server takes to answer the end of a mail.
    examining: Duration,
}

const KIND: Manners = Manners {
    sender: "250 ok",
    recipient: "250 ok",
    mail: "250 queued",
    examining: Duration::ZERO,
};

/// A mail server without TLS, and all lines that clients have sent to it.
struct MailServer {
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    async fn new(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::on(listener, manners)
    }

    fn on(listener: TcpListener, manners: Manners) -> Self {
        let port = listener.local_addr().expect("bound").port();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // The client may close at any moment.
                tokio::spawn(converse(client, manners, Arc::clone(&heard)));
            }
        });
        Self { port, lines }
    }

    fn url(&self) -> String {
        format!("smtp://shop:hush-hush@127.0.0.1:{}", self.port)
    }

    fn mailer(&self) -> SmtpMailer {
        SmtpMailer::new(&self.url(), "Shop <shop@example.org>", true).expect("an address")
    }

    fn heard(&self) -> Vec<String> {
        self.lines.lock().expect("nothing panics while holding it").clone()
    }
}

async fn converse(
    client: TcpStream,
    manners: Manners,
    heard: Arc<Mutex<Vec<String>>>,
) -> io::Result<()> {
    let (read, mut write) = client.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 test ESMTP\r\n").await?;
    let mut in_mail = false;
    while let Some(line) = lines.next_line().await? {
        heard.lock().expect("nothing panics while holding it").push(line.clone());
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        let answer = match verb.as_str() {
            "." if in_mail => {
                in_mail = false;
                tokio::time::sleep(manners.examining).await;
                manners.mail
            }
            _ if in_mail => continue,
            "EHLO" => "250-test\r\n250 AUTH PLAIN",
            "AUTH" => "235 welcome",
            "MAIL" => manners.sender,
            "RCPT" => manners.recipient,
            "DATA" => {
                in_mail = true;
                "354 go on"
            }
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        if answer.is_empty() {
            return Ok(());
        }
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

fn mail() -> Mail {
    Mail {
        to: "ada@example.com".into(),
        subject: "Welcome\r\nBcc: eve@example.com".into(),
        text: "Grüße, Ada\n.\nQUIT".into(),
    }
}

/// The headers with this name, over all mails.
fn headers<'a>(lines: &'a [String], name: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[tokio::test]
async fn a_mail_arrives_with_the_same_id_each_time_it_is_sent_under_one_key() {
    let server = MailServer::new(KIND).await;
    let mailer = server.mailer();
    for key in ["k1", "k1", "k2"] {
        mailer.send(key, &mail()).await.expect("the server accepts it");
    }
    let lines = server.heard();
    let ids = headers(&lines, "Message-ID");
    assert!(ids[0] == ids[1] && ids[1] != ids[2] && ids[0].ends_with("@example.org>"), "{ids:?}");
    assert_eq!(headers(&lines, "To"), ["ada@example.com"; 3]);
    assert_eq!(headers(&lines, "Auto-Submitted"), ["auto-generated"; 3]);
    assert_eq!(headers(&lines, "Bcc"), [""; 0], "a subject cannot add a header");
    let recipients = lines.iter().filter(|line| line.starts_with("RCPT"));
    assert_eq!(recipients.count(), 3, "a text cannot end the mail: {lines:?}");
}

#[tokio::test]
async fn a_refused_mail_names_the_status_and_no_address() {
    let manners = Manners { recipient: "550 5.1.1 <ada@example.com> is unknown", ..KIND };
    let server = MailServer::new(manners).await;
    let refused = server.mailer().send("k1", &mail()).await.expect_err("the server refuses");
    assert!(matches!(refused, MailError::Refused(_)), "{refused:?}");
    let said = format!("{refused} {refused:?}");
    assert!(said.contains("550") && !said.contains("ada"), "{said}");
}

#[tokio::test]
async fn only_an_address_that_is_wrong_for_good_is_given_up() {
    const WRONG: [&str; 5] = [
        "550 5.1.1 <ada@example.com> is unknown",
        "550-5.1.2 there is no such host\r\n550 5.1.2 in the world",
        "553 5.1.3 that is no address",
        "551 5.1.6 it has moved",
        "556 5.1.10 the domain takes no mail",
    ];
    const OTHER: [&str; 6] = [
        "550 no such user here, or so it seems",
        "550 5.7.1 relaying is denied",
        "550 5.4.5 the quota of this day is used up",
        "550 5.1.8 the sender's domain is unknown",
        "553 5.7.1 the sender is not yours",
        "450 4.1.1 <ada@example.com> is not known yet",
    ];
    let answer = async |manners| {
        let server = MailServer::new(manners).await;
        server.mailer().send("k1", &mail()).await.expect_err("the server refuses")
    };
    for said in WRONG {
        for manners in [Manners { recipient: said, ..KIND }, Manners { mail: said, ..KIND }] {
            let refused = answer(manners).await;
            assert!(matches!(refused, MailError::Refused(_)), "{said}: {refused:?}");
        }
    }
    for said in OTHER {
        for manners in [
            Manners { sender: said, ..KIND },
            Manners { recipient: said, ..KIND },
            Manners { mail: said, ..KIND },
        ] {
            let refused = answer(manners).await;
            assert!(matches!(refused, MailError::NotDone(_)), "{said}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_examines_a_mail_for_twelve_seconds_gets_it_once() {
    let server = MailServer::new(Manners { examining: Duration::from_secs(12), ..KIND }).await;
    server.mailer().send("k1", &mail()).await.expect("the server accepts it in the end");
    assert_eq!(headers(&server.heard(), "To"), ["ada@example.com"]);
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_leaves_the_mail_unknown() {
    let server = MailServer::new(Manners { mail: "", ..KIND }).await;
    let lost = server.mailer().send("k1", &mail()).await.expect_err("nothing was answered");
    assert!(matches!(lost, MailError::Unknown(_)), "{lost:?}");
}

#[tokio::test]
async fn a_server_without_tls_gets_neither_the_password_nor_the_mail() {
    let server = MailServer::new(KIND).await;
    let mailer = SmtpMailer::new(&server.url(), "shop@example.org", false).expect("an address");
    let refused = mailer.send("k1", &mail()).await.expect_err("TLS is required");
    assert!(matches!(refused, MailError::NotDone(_)), "{refused:?}");
    let verbs = server.heard();
    assert!(!verbs.is_empty() && verbs.iter().all(|line| !line.starts_with("AUTH")), "{verbs:?}");
    assert!(!verbs.iter().any(|line| line.starts_with("RCPT")), "{verbs:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_at_the_start_by_name() {
    let site = Site::new();
    let from = ["--mail-from", "shop@example.org"];
    for (args, named) in [
        (&["--smtp-url", "http://mail.example", from[0], from[1]][..], "smtps://"),
        (&["--smtp-url", "smtps://", from[0], from[1]], "--smtp-url"),
        (&["--smtp-url", "smtps://mail.example"], "--mail-from"),
        (&["--smtp-url", "smtps://mail.example", from[0], "nobody"], "--mail-from"),
    ] {
        let (code, line) = site.refusal(&[&["up", "--port", "0"], args].concat()).await;
        assert!(code == 2 && line.contains(named), "{code}: {line}");
    }
}

/// Fault: outside: the mail server is away
/// Customer: the mail comes when it is back
/// Operator: `doctor` names it under `mail`; `lastError` of the saga says it
/// Within: 5 s
/// Ends: when the mail server answers
#[tokio::test]
async fn a_mail_waits_for_its_server_and_then_arrives() {
    let site = Site::new();
    // The port is ours while nobody listens on it.
    let free = tokio::net::TcpSocket::new_v4().expect("a socket");
    free.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let port = free.local_addr().expect("bound").port();
    let url = format!("smtp://shop:hush-hush@127.0.0.1:{port}");
    let args = ["--smtp-url", &url, "--mail-from", "Shop <shop@example.org>"];
    let up = site.up(&args).await;
    let ada = json!({"email": "ada@example.net", "password": "a lantern hums over wet slate",
        "firstName": "Ada", "lastName": "Byron"});
    let (status, customer) = up.post("", "/v1/customers", &ada).await;
    assert_eq!(status, 201, "{customer}");
    let operator = up.token("operator");
    eventually("a failed try to be shown to operators", async || {
        let sagas = up.get(&operator, "/v1/admin/sagas?status=running").await.1;
        let items = sagas["items"].as_array().expect("a list").clone();
        items.iter().any(|saga| saga["lastError"].as_str().is_some_and(|it| it.contains("mail")))
    })
    .await;
    let (_, lines) = doctor(&site, &args).await;
    assert!(wrong(&lines).iter().any(|(what, _)| *what == "mail"), "{lines:?}");
    let server = MailServer::on(free.listen(16).expect("bound"), KIND);
    eventually("the mail", async || {
        headers(&server.heard(), "To").iter().any(|to| to.contains("ada@example.net"))
    })
    .await;
    let (_, lines) = doctor(&site, &args).await;
    assert!(wrong(&lines).iter().all(|(what, _)| *what != "mail"), "{lines:?}");
    assert!(!site.log().contains("hush"), "the password is in the log");
    assert!(up.stop("TERM").await.success());
}
