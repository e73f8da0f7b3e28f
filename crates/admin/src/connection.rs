//! A connection whose other end is known: by its key over TLS, or by the file permission of the Unix socket.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use estafet_model::PublicKey;
use estafet_tls::key_of_certificate;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// The other end. Every request of the connection carries it in its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Holds the private half of this key.
    Key { key: PublicKey, address: SocketAddr },
    /// Could open the Unix socket: the number of their user, if the system tells it.
    Local(Option<u32>),
}

enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// An accepted connection, and its place among those that may be open at once.
pub(crate) struct Connection {
    stream: Stream,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Takes a finished handshake. Nothing if the client is gone, or showed no key, which the TLS configuration does not let
    /// happen.
    pub(crate) fn tls(stream: TlsStream<TcpStream>, place: OwnedSemaphorePermit) -> Option<Self> {
        let key = key_of_certificate(stream.get_ref().1.peer_certificates()?.first()?)?;
        let address = stream.get_ref().0.peer_addr().ok()?;
        Some(Self { stream: Stream::Tls(Box::new(stream)), peer: Peer::Key { key, address }, _place: place })
    }

    pub(crate) fn unix(stream: UnixStream, place: OwnedSemaphorePermit) -> Self {
        let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
        Self { stream: Stream::Unix(stream), peer: Peer::Local(user), _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
