//! In: a driver. Out: a server with a TLS port beside the plain one, and clients that trust it.

use crate::client::{Client, connect};
use crate::server::{Layout, Running, try_start};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use vestibule::{Limit, Limits};
use vestibule_driver::tls::{TlsConfig, provider, server_config};
use vestibule_driver::{BindError, Builder, Driver};

/// A TLS stream of rustls's own client.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A server for `localhost`.
#[derive(Debug)]
pub struct Site {
    pub server: Running,
    pub client: Arc<ClientConfig>,
    roots: RootCertStore,
    /// The certificate as PEM text.
    pub certificate: String,
}

/// Bodies as large as the suite's are taken.
pub fn roomy() -> Limits {
    Limits::DEFAULT.with(Limit::BodyBytes, 1 << 26).unwrap()
}

impl Site {
    pub fn new<D: Driver>(layout: Layout<D>) -> Site {
        Site::with::<D>(false, layout).unwrap()
    }

    /// The same with these choices; `ask`: the service is asked for the configuration, and chooses nothing.
    ///
    /// # Errors
    /// The driver has not what was chosen.
    pub fn with<D: Driver>(ask: bool, choose: impl FnOnce(Builder<D>) -> Builder<D>) -> Result<Site, BindError> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let cert: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut tls = TlsConfig::new(server_config(vec![cert.clone()], key).unwrap());
        if ask {
            tls = tls.ask();
        }
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server = try_start::<D>(|b| choose(b.limits(roomy()).https("127.0.0.1:0".parse().unwrap(), tls)))?;
        Ok(Site { server, client: Arc::new(client), roots, certificate: made.cert.pem() })
    }

    /// The TLS port.
    pub fn port(&self) -> u16 {
        self.server.addrs[1].port()
    }

    /// A stream of such a client.
    pub fn stream(&self, config: Arc<ClientConfig>) -> Stream {
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(config, name).unwrap(), connect(self.server.addrs[1]))
    }

    /// The same clients with TLS 1.2 alone, and sessions of their own.
    pub fn old_client(&self) -> ClientConfig {
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        client
    }

    /// A client for HTTP/1.1.
    pub fn http1(&self) -> Client<Stream> {
        Client::new(self.stream(self.client.clone()))
    }

    /// A client for HTTP/2.
    pub fn http2(&self) -> crate::h2::Client<Stream> {
        crate::h2::Client::new(self.offer(&[b"h2"]))
    }

    /// A stream that offers these protocols.
    pub fn offer(&self, protocols: &[&[u8]]) -> Stream {
        let mut client = ClientConfig::clone(&self.client);
        client.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        self.stream(Arc::new(client))
    }

    /// The certificate in a file of its own, for clients that want one. It is removed with the last one who holds it.
    pub fn certificate_file(&self) -> TempFile {
        TempFile::new("pem", self.certificate.as_bytes())
    }
}

/// A file that goes when it is dropped.
#[derive(Debug)]
pub struct TempFile(pub PathBuf);

impl TempFile {
    pub fn new(ending: &str, content: &[u8]) -> TempFile {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vestibule-suite-{}-{number}.{ending}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
