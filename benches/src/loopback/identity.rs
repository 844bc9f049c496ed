//! In: nothing. Out: a certificate and its key for `localhost`, the same for all servers of a run, and configurations with it.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use vestibule_driver::tls::{provider, server_config};

/// Who the servers are.
pub(crate) struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// A new one.
    pub(crate) fn new() -> Result<Identity, Box<dyn Error>> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
        Ok(Identity { certificate: made.cert.der().to_vec(), key: made.signing_key.serialize_der() })
    }

    /// As two arguments of a program.
    pub(crate) fn arguments(&self) -> [String; 2] {
        [&self.certificate, &self.key].map(|bytes| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}"); // a String takes all
                text
            })
        })
    }

    /// From such arguments.
    pub(crate) fn from_arguments(certificate: &str, key: &str) -> Result<Identity, Box<dyn Error>> {
        Ok(Identity { certificate: bytes(certificate)?, key: bytes(key)? })
    }

    /// For HTTP/2 and HTTP/1.1.
    pub(crate) fn server(&self) -> Result<ServerConfig, Box<dyn Error>> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        Ok(server_config(vec![CertificateDer::from(self.certificate.clone())], key)?)
    }

    /// For a client that trusts it and says HTTP/1.1.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.certificate.clone()))?;
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(client))
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let digits = text.as_bytes().chunks(2).map(std::str::from_utf8);
    digits.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect()
}
