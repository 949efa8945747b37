//! TLS for all outgoing connections of this process: rustls with ring.

use std::time::Duration;

/// Installs ring as the process's TLS provider. Call it before building a TLS client; further calls do nothing.
pub fn install_provider() {
    // An error means that a provider is installed already, which is enough.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// An HTTP client builder for `base_url`: no redirects, no proxy, keep-alive, explicit time-outs.
///
/// For an `http://` address the system's certificates are not loaded, so that it also works on a
/// machine without any.
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
