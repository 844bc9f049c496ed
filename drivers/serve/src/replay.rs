//! In: a byte file. Out: the transcript of what the machine makes of it.

use crate::args::Replay;
use crate::serve::own_certificate;
use std::io::Read;
use std::sync::Arc;
use vestibule::rehearsal::{Input, Pieces, Rehearsal};
use vestibule::{Config, Limits};
use vestibule_driver::tls::{TlsConfig, server_config};

/// The content type of a TLS handshake record (RFC 8446 §5.1); no HTTP message begins with it.
const HANDSHAKE: u8 = 0x16;

pub(crate) fn run(options: &Replay) -> Result<(), String> {
    let name = options.file.display();
    let mut bytes = Vec::new();
    let read = match options.file.as_os_str() == "-" {
        true => std::io::stdin().lock().read_to_end(&mut bytes),
        false => std::fs::File::open(&options.file).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("{name}: {error}"))?;
    let mut config = Config::new(Limits::DEFAULT);
    if bytes.first() == Some(&HANDSHAKE) && !options.tls_off {
        let (chain, key) = own_certificate()?;
        let tls = server_config(chain, key).map_err(|error| error.to_string())?;
        config = config.with_tls(TlsConfig::new(tls));
    }
    let mut rehearsal = Rehearsal::new(Arc::new(config));
    rehearsal.pieces = options.split.map_or(Pieces::Whole, Pieces::Each);
    // The end of the file is not the end of the peer: a request that is cut off is seen as one that is still on its way.
    crate::print(&rehearsal.play(&[Input::Bytes(bytes)]));
    Ok(())
}
