//! In: a row of TLS records. Out: nothing, or a panic when a promise is broken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use std::sync::{Arc, LazyLock};
use vestibule::decrypt::TlsConfig;

static CONFIG: LazyLock<TlsConfig> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
    let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    TlsConfig::new(server.expect("a configuration"))
});

fuzz_target!(|data: &[u8]| vestibule::fuzzing::tls_records(data, &CONFIG));
