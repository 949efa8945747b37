//! Registration while mail cannot be sent.

use std::fs;

use serde_json::json;

use crate::site::{Site, eventually};

#[tokio::test]
async fn the_verification_mail_comes_when_the_mail_folder_can_be_written_again() {
    let site = Site::new();
    let up = site.up(&[]).await;
    let (mail, away) = (site.data.join("mail"), site.data.join("mail.away"));
    fs::rename(&mail, &away).expect("ours");
    fs::write(&mail, "not a folder").expect("ours");
    let ada = json!({"email": "ada@example.net", "password": "a lantern hums over wet slate",
        "firstName": "Ada", "lastName": "Byron"});
    let (status, customer) = up.post("", "/v1/customers", &ada).await;
    assert_eq!(status, 201, "{customer}");
    let operator = up.token("operator");
    eventually("a failed try to be shown to operators", async || {
        let sagas = up.get(&operator, "/v1/admin/sagas?kind=register-customer").await.1;
        sagas["items"][0]["lastError"].is_string()
    })
    .await;
    fs::remove_file(&mail).expect("ours");
    fs::rename(&away, &mail).expect("ours");
    let mut token = None;
    eventually("the mail", async || {
        let files = fs::read_dir(&mail).expect("it is a folder again");
        let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
        let mut mails = texts.filter(|text| text.starts_with("To: ada@example.net\r\n"));
        token = mails.find_map(|text| {
            text.split_once("token: ")?.1.split_whitespace().next().map(str::to_owned)
        });
        token.is_some()
    })
    .await;
    let (status, verified) =
        up.post("", "/v1/customers/verify-email", &json!({"verificationToken": token})).await;
    assert_eq!((status, &verified["emailVerified"]), (200, &json!(true)), "{verified}");
    assert!(up.stop("TERM").await.success());
}
