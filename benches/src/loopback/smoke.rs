//! In: a server. Out: it answers, or not. Nothing is measured.

use crate::child::Server;
use crate::client::{connect, get, post};
use std::error::Error;
use std::time::{Duration, Instant};

/// How long a server is asked.
const LENGTH: Duration = Duration::from_millis(200);

/// Requests for a while on a few connections in turn, and new ones; every answer is read, and the server must have counted the same.
pub(crate) fn smoke(server: &mut Server) -> Result<u64, Box<dyn Error>> {
    let mut sockets = (0..4).map(|_| connect(server.plain)).collect::<Result<Vec<_>, _>>()?;
    let (begun, mut sent) = (Instant::now(), 0);
    let counts = server.contender.is_complete();
    while begun.elapsed() < LENGTH {
        for socket in &mut sockets {
            get(socket)?;
            sent += 1;
        }
        let mut new = connect(server.plain)?;
        get(&mut new)?;
        sent += 1;
        if counts {
            post(&mut new, 10_000)?;
            sent += 1;
        }
    }
    let requests = server.used()?.requests;
    if requests == sent { Ok(sent) } else { Err(format!("{sent} were answered, {requests} were counted").into()) }
}
