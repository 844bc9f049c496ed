//! A TLS client over any stream of bytes: rustls's, and what moves its records.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vestibule_tokio::tls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use vestibule_tokio::tls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use vestibule_tokio::tls::rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use vestibule_tokio::tls::{TlsConfig, from_pem, provider};

/// A server's configuration with a certificate of its own.
pub(crate) fn server() -> TlsConfig {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let config = from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes());
    TlsConfig::new(config.expect("a configuration"))
}

/// Takes the server as it is: who it is, is not what is tested.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(crate) struct TlsClient<IO> {
    io: IO,
    tls: ClientConnection,
    /// Received, and not yet looked at.
    rest: Vec<u8>,
}

impl<IO> TlsClient<IO> {
    pub(crate) fn new(io: IO, alpn: &[u8]) -> TlsClient<IO> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let mut config = builder
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        TlsClient { io, tls: ClientConnection::new(Arc::new(config), name).expect("a client"), rest: Vec::new() }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> TlsClient<IO> {
    /// Writes all records that wait.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        struct Out<'a, 'b, IO>(&'a mut IO, &'a mut Context<'b>);
        impl<IO: AsyncWrite + Unpin> Write for Out<'_, '_, IO> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                match Pin::new(&mut *self.0).poll_write(self.1, bytes) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Out(&mut self.io, cx)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsClient<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let _ = this.push(cx)?;
            match this.tls.reader().read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
            if this.rest.is_empty() {
                let mut bytes = [0; 16_384];
                let mut raw = ReadBuf::new(&mut bytes);
                ready!(Pin::new(&mut this.io).poll_read(cx, &mut raw))?;
                this.rest.extend_from_slice(raw.filled());
            }
            // What it takes at once is read before it is given more.
            let n = this.tls.read_tls(&mut &this.rest[..])?;
            this.rest.drain(..n);
            this.tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsClient<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.push(cx))?;
        let n = self.tls.writer().write(bytes)?;
        let _ = self.push(cx)?;
        if n == 0 && !bytes.is_empty() {
            return Poll::Pending; // until the handshake is over: whoever reads, in the same task, goes on with that
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.push(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tls.send_close_notify();
        ready!(self.push(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
