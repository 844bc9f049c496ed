//! In: contenders. Out: how much more memory they hold for each connection that idles after a request.

use crate::child::Server;
use crate::client::{Client, Speaks};
use crate::identity::Identity;
use crate::names::Contender;
use std::error::Error;

/// Connections at the same time.
const CONNECTIONS: usize = 1_000;
/// Connections that come before, so that what a server needs once is there.
const WARM_UP: usize = 8;

/// Prints the table.
pub(crate) fn run(contenders: &[Contender], identity: &Identity) -> Result<(), Box<dyn Error>> {
    let client = Client::new(identity)?;
    println!("\nIdle connections: resident bytes for each of {CONNECTIONS}");
    println!("  {:<22} {:>10} {:>10} {:>10}", "", "plain", "h2c", "TLS");
    for contender in contenders {
        let mut cells = Vec::new();
        for speaks in [Speaks::Http1, Speaks::H2c, Speaks::Tls] {
            if contender.is_complete() || matches!(speaks, Speaks::Http1) {
                cells.push(match bytes(*contender, &client, speaks, identity) {
                    Ok(bytes) => bytes.to_string(),
                    Err(error) => error.to_string(),
                });
            } else {
                cells.push("-".into());
            }
        }
        let [plain, h2c, tls] = &cells[..] else { continue };
        println!("  {:<22} {plain:>10} {h2c:>10} {tls:>10}", contender.name);
    }
    Ok(())
}

/// A server of its own for each kind, for memory that one kind has left behind would serve the next one.
fn bytes(contender: Contender, client: &Client, speaks: Speaks, identity: &Identity) -> Result<u64, Box<dyn Error>> {
    let mut server = Server::start(contender, identity, None)?;
    let port = if matches!(speaks, Speaks::Tls) { server.tls.ok_or("it has no TLS")? } else { server.plain };
    let open = |n: usize| (0..n).map(|_| client.idle(port, speaks)).collect::<Result<Vec<_>, _>>();
    let warm = open(WARM_UP)?;
    let before = server.used()?.resident_kib;
    let all = open(CONNECTIONS)?;
    let after = server.used()?.resident_kib;
    drop((warm, all));
    Ok(after.saturating_sub(before) * 1_024 / CONNECTIONS as u64)
}
