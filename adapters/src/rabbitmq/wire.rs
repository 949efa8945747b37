//! Opens the connection: with TLS for `amqps://`, without for `amqp://`.

use std::io;

use lapin::tcp::{AMQPUriTcpExt as _, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};

use crate::tls;

/// Connects to `uri`. The server's certificate must be valid for the host and signed by an authority of the system or
/// of `SSL_CERT_FILE`.
///
/// A client library that was built without TLS would use plain TCP. Such a connection is refused before the first byte
/// is sent.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
) -> lapin::Result<Connection> {
    tls::install_provider();
    let runtime = lapin::runtime::default_runtime()?;
    let open = async move |uri: AMQPUri, runtime| {
        let config = OwnedTLSConfig::default();
        let stream = uri.connect_with_config_async(config.as_ref(), &runtime).await?;
        match (&uri.scheme, &stream) {
            (AMQPScheme::AMQPS, AsyncTcpStream::Plain(_)) => {
                Err(io::Error::other("this program was built without TLS for amqps://").into())
            }
            _ => Ok(stream),
        }
    };
    Connection::connector(uri, runtime, open, properties).await
}
