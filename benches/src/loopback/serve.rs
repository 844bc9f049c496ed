//! In: a contender, lines on the standard input. Out: a server; its ports, and a line of what it has used for each line it reads. The end
//! of the input ends it.

use crate::counter::{count, total};
use crate::identity::Identity;
use crate::names::{Contender, Layout, Made};
use crate::{floor, peer};
use std::error::Error;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::thread;
use vestibule::decrypt::TlsConfig;
use vestibule::{Config, Event, Expect, Limit, Limits, Misuse, Request};
use vestibule_driver::listen::Address;
use vestibule_driver::{Driver, Incident, Server, What};

/// What `GET /` is answered with.
pub(crate) const HELLO: &str = "Hello, world!";

/// What a server listens on.
pub(crate) struct Ports {
    pub(crate) plain: u16,
    /// None if it has no TLS.
    pub(crate) tls: Option<u16>,
}

/// Any free port.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Serves until the standard input ends.
pub(crate) fn serve(contender: Contender, identity: &Identity) -> Result<(), Box<dyn Error>> {
    let ports = match contender.made {
        Made::Std(layout) => drive::<vestibule_std::Std>(layout, identity)?,
        Made::Tokio(layout) => drive::<vestibule_tokio::Tokio>(layout, identity)?,
        Made::Uring(layout) => drive::<vestibule_uring::Uring>(layout, identity)?,
        Made::Tower => peer::tower(identity)?,
        Made::Hyper => peer::hyper(identity)?,
        Made::Floor => floor::start()?,
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "{} {}", ports.plain, ports.tls.unwrap_or(0))?;
    for line in std::io::stdin().lock().lines() {
        line?;
        writeln!(output, "{}", used())?;
    }
    writeln!(output, "{}", used())?;
    Ok(())
}

/// CPU nanoseconds of all threads, user and system; requests; resident KiB.
fn used() -> String {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let nanos = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
    format!("{nanos} {} {}", total(), resident.unwrap_or("0"))
}

/// Limits that a load from one address on few connections stays within.
pub(crate) fn limits() -> Limits {
    Limits::DEFAULT.with(Limit::ConnectionRequests, 1_000_000_000).unwrap_or(Limits::DEFAULT)
}

fn drive<D: Driver>(layout: Layout, identity: &Identity) -> Result<Ports, Box<dyn Error>> {
    let address = Address::from(ANY);
    let by_job = layout.offload.decode;
    let server = Server::<D>::builder()
        .http(address.clone())
        .https(address, TlsConfig::new(identity.server()?))
        .config(Config::new(limits()))
        .topology(layout.topology)
        .offload(layout.offload)
        .reuse_port(layout.reuse_port)
        .threads(2_048)
        .per_source(100_000)
        .on_fault(complain)
        .service(move |_| move |event: Event<'_>| event_of(event, by_job))
        .bind()?;
    let ports = match server.local_addrs()[..] {
        [plain, tls] => Ports { plain: plain.port(), tls: Some(tls.port()) },
        _ => return Err("two ports were asked for".into()),
    };
    thread::Builder::new().spawn(move || server.run())?;
    Ok(ports)
}

/// Loads end in the middle of what they do. Whatever else happens is to be seen.
fn complain(incident: &Incident) {
    if !matches!(incident.what, What::Fault(_)) {
        let _ = writeln!(std::io::stderr(), "{incident}"); // it may be closed
    }
}

/// Says hello, and tells the length of bodies, which it keeps as the exchange's tag.
fn event_of(event: Event<'_>, by_job: bool) -> Result<(), Misuse> {
    match event {
        Event::Request(Request { has_body: false, mut reply, .. }) => {
            count();
            reply.text(200, HELLO)
        }
        Event::Request(mut request) => {
            count();
            request.reply.set_tag(0);
            if by_job {
                request.reply.expect(Expect::WholeByJob { max: 65_536 });
            }
            Ok(())
        }
        Event::Body(mut body) => {
            let length = body.reply.tag() + body.bytes.len() as u64;
            body.reply.set_tag(length);
            if body.last { body.reply.text(200, &length.to_string()) } else { Ok(()) }
        }
        Event::Trailers(mut trailers) => {
            let length = trailers.reply.tag();
            trailers.reply.text(200, &length.to_string())
        }
        _ => Ok(()),
    }
}
