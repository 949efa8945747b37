//! TLS for everything in this process that calls out: rustls with ring.

use std::time::Duration;

/// Makes ring the process's TLS provider, once; whoever builds a TLS client calls it first.
pub fn install_provider() {
    // An error says that one is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// An HTTP client builder for `base_url`: no redirects, no proxy, keep-alive, explicit time-outs.
///
/// For a plain `http://` address no system certificates are asked for, so that it also works on a
/// machine that has none.
pub fn http_client(
    base_url: &str,
    connect_timeout: Duration,
    timeout: Duration,
) -> reqwest::ClientBuilder {
    install_provider();
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout)
        .timeout(timeout);
    if base_url.starts_with("https://") { builder } else { builder.tls_certs_only([]) }
}
