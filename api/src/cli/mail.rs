//! The mailer that the settings ask for.

use std::{path::PathBuf, sync::Arc};

use secrecy::ExposeSecret as _;
use stepwise_adapters::mail::{FileMailer, SmtpMailer};
use stepwise_workflows::shop::mail::Mailer;

use super::{
    Failure,
    folder::Folder,
    settings::{Settings, is_this_machine},
};

/// The mailer of the shop: the mail server that is given, or else files in the data folder.
pub(super) fn open(settings: &Settings, folder: &Folder) -> Result<Arc<dyn Mailer>, Failure> {
    let folder = files(folder);
    let open = || {
        FileMailer::new(&folder)
            .map_err(|error| Failure::failed("cannot write mail into the data directory", error))
    };
    Ok(match server(settings)? {
        // Mails of the time before there was a mail server are forgotten as well.
        Some(smtp) if folder.exists() => Arc::new(smtp.with_files(open()?)),
        Some(smtp) => Arc::new(smtp),
        None => Arc::new(open()?),
    })
}

/// The folder of the mails where no mail server is given.
pub(super) fn files(folder: &Folder) -> PathBuf {
    folder.join("mail")
}

/// The mail server, if one is given. A server of another machine must offer TLS, unless the network is private.
pub(super) fn server(settings: &Settings) -> Result<Option<SmtpMailer>, Failure> {
    let Some(url) = &settings.smtp_url else { return Ok(None) };
    let Some(sender) = &settings.mail_from else {
        return Err(Failure::usage("--smtp-url needs a sender: give --mail-from as well"));
    };
    let url = url.expose_secret();
    let is_here = url.parse().is_ok_and(|url: reqwest::Url| is_this_machine(url.host_str()));
    let mailer = SmtpMailer::new(url, sender, is_here || settings.plain_network);
    mailer.map(Some).map_err(|error| Failure::usage(format!("--smtp-url or --mail-from: {error}")))
}
