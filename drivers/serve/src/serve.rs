//! In: the options of `vestibule serve`. Out: a server, what to try on it, and its life in numbers.

use crate::args::Serve;
use crate::page::Site;
use crate::routes::Visitor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use vestibule::decode::coding::Coding;
use vestibule::{Limit, Limits};
use vestibule_driver::inherited::Inherited;
use vestibule_driver::listen::{Address, ListenError};
use vestibule_driver::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use vestibule_driver::tls::{TlsConfig, TlsError, from_pem, log_keys, server_config};
use vestibule_driver::{BindError, Builder, Driver, Server, Topology, What};
use vestibule_std::Std;
use vestibule_tokio::Tokio;
use vestibule_uring::Uring;

/// What a body may be, coded and decoded, and a file in it. Only `/upload` takes that much, and it keeps none of it.
const BODY: u64 = 1 << 30;
/// What the decoders of a connection may hold: brotli's tool asks for a window of 16 MiB where a file is that large.
const DECODERS: u64 = 40 << 20;

type Run = fn(&Serve) -> Result<(), String>;

/// The drivers of this build, by name.
const DRIVERS: &[(&str, Run)] =
    &[(Std::NAME, serve::<Std>), (Tokio::NAME, serve::<Tokio>), (Uring::NAME, serve::<Uring>)];

pub(crate) fn run(options: &Serve) -> Result<(), String> {
    match DRIVERS.iter().find(|driver| driver.0 == options.driver) {
        Some((_, serve)) => serve(options),
        None => Err(format!("the driver {} is not in this build", options.driver)),
    }
}

fn serve<D: Driver>(options: &Serve) -> Result<(), String> {
    let limits = limits()?;
    let by_job = options.offload.decode || options.topology == Topology::Stages;
    let site = Arc::new(Site::new(limits.clone(), by_job));
    let (for_visitors, for_faults) = (site.clone(), site.clone());
    let ports =
        Server::<D>::builder().http(options.http.into()).https(options.https.into(), TlsConfig::new(tls(options)?));
    let server = choose(ports, options)
        .inherited(Inherited::from_environment().map_err(|error| error.to_string())?)
        .limits(limits)
        .signals(true)
        .service(move |peer| Visitor::new(for_visitors.clone(), *peer))
        .on_fault(move |incident| {
            if let What::Fault(violation) = &incident.what {
                for_faults.violated(violation);
            }
            crate::say(&incident.to_string());
        })
        .bind()
        .map_err(|error| name_the_flag(options, error))?;
    let addrs = server.local_addrs();
    let (http, https) = (seen(addrs.first(), options.http), seen(addrs.get(1), options.https));
    site.open_at(http, https);
    if let Some(probe) = server.probe() {
        site.measured_by(probe, format!("driver {}, topology {}", D::NAME, options.topology));
    }
    crate::print(&greeting(http, https, options.cert.is_none()));
    let summary = server.run();
    crate::print(&format!("{summary}\n"));
    Ok(())
}

/// The choices that need nothing but themselves.
fn choose<D: Driver>(builder: Builder<D>, options: &Serve) -> Builder<D> {
    type Set<D> = fn(Builder<D>, usize) -> Builder<D>;
    let numbers: [(Option<usize>, Set<D>); 9] = [
        (options.per_source, Builder::per_source),
        (options.defer_accept, |builder, n| builder.defer_accept(Duration::from_secs(n as u64))),
        (options.fast_open, |builder, n| builder.fast_open(u16::try_from(n).unwrap_or(u16::MAX))),
        (options.workers, Builder::workers),
        (options.threads, Builder::threads),
        (options.pool_threads, Builder::pool_threads),
        (options.queue, Builder::queue),
        (options.connections, Builder::connections),
        (options.backlog, |builder, n| builder.backlog(u32::try_from(n).unwrap_or(u32::MAX))),
    ];
    let builder = builder
        .topology(options.topology)
        .offload(options.offload)
        .hand_out(options.hand_out.unwrap_or_default())
        .reuse_port(options.reuse_port)
        .pin(options.pin)
        .probe(options.probe)
        .codings(if options.compress { &[Coding::Zstd, Coding::Gzip] } else { &[] });
    let builder = match &options.handover {
        Some(path) => builder.handover(path),
        None => builder,
    };
    let builder = builder.trust(options.trust.clone());
    let builder = options.unix.iter().fold(builder, |builder, path| builder.http(Address::Unix(path.clone())));
    numbers.into_iter().fold(builder, |builder, (n, set)| match n {
        Some(n) => set(builder, n),
        None => builder,
    })
}

fn limits() -> Result<Limits, String> {
    let raised = [Limit::BodyBytes, Limit::DecodedBytes, Limit::PartFileBytes];
    let limits = raised.into_iter().try_fold(Limits::DEFAULT, |limits, limit| limits.with(limit, BODY));
    let limits = limits.and_then(|limits| limits.with(Limit::DecoderPoolBytes, DECODERS));
    limits.map_err(|error| error.to_string())
}

/// The certificate of these files, or one made for this machine.
fn tls(options: &Serve) -> Result<vestibule_driver::tls::rustls::ServerConfig, String> {
    let mut tls = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => {
            let read = |path: &std::path::Path| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
            from_pem(&read(cert)?, &read(key)?)
                .map_err(|e| format!("--cert {} --key {}: {e}", cert.display(), key.display()))?
        }
        _ => {
            let (chain, key) = own_certificate()?;
            server_config(chain, key).map_err(|error: TlsError| error.to_string())?
        }
    };
    log_keys(&mut tls);
    Ok(tls)
}

/// An address that a client on this machine can use.
fn seen(local: Option<&SocketAddr>, asked: SocketAddr) -> SocketAddr {
    let mut addr = local.copied().unwrap_or(asked);
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    addr
}

fn name_the_flag(options: &Serve, error: BindError) -> String {
    match &error {
        BindError::Listen(error) if error.address.tcp().is_some() => {
            let flag = if error.address.tcp() == Some(options.http) { "--http" } else { "--https" };
            let ListenError { address, error, .. } = error;
            format!("{flag} {address}: {error}. Another address: {flag} ADDR; port 0 takes any that is free.")
        }
        _ => error.to_string(),
    }
}

/// What to try, with the true addresses; the page shows the same lines.
pub(crate) fn examples(http: SocketAddr, https: SocketAddr) -> Vec<String> {
    vec![
        format!("curl http://{http}/hello"),
        format!("curl -k https://{https}/hello"),
        format!("curl --http2-prior-knowledge http://{http}/hello"),
        format!("curl -k --http2 https://{https}/inspect"),
        format!("curl -k https://{https}/inspect -H 'content-type: application/json' -d '{{\"n\": [1, 2.5, null]}}'"),
        format!(
            "echo '{{\"n\": 1}}' | gzip | curl -k https://{https}/inspect -H 'content-type: application/json' -H 'content-encoding: gzip' --data-binary @-"
        ),
        format!("curl -k https://{https}/echo -H 'content-type: text/plain' -d 'there and back'"),
        format!("curl -k 'https://{https}/inspect?tag=a&tag=b' -d 'name=J%C3%BCrgen&box=on'"),
        format!("curl -k https://{https}/upload -F note=hello -F file=@/etc/hostname"),
        format!("curl -si --compressed http://{http}/"),
        format!("curl -s http://{http}/bytes/1000000 | wc -c"),
        format!("curl -s http://{http}/metrics"),
    ]
}

fn greeting(http: SocketAddr, https: SocketAddr, made: bool) -> String {
    let mut text = format!("vestibule {} serves\n  http://{http}/\n  https://{https}/", env!("CARGO_PKG_VERSION"));
    if made {
        text += "  with a certificate made just now, hence -k";
    }
    text += "\nTry:\n";
    for line in examples(http, https) {
        text += &format!("  {line}\n");
    }
    text + "The page at / shows where the time goes, and the last 50 requests. Ctrl-C stops.\n"
}

/// A certificate for this machine's own names, and its key.
pub(crate) fn own_certificate() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(str::to_string)?;
    Ok((vec![made.cert.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_this_build_lacks_is_named() {
        let options = Serve { driver: "mill", ..Serve::default() };
        assert_eq!(run(&options), Err("the driver mill is not in this build".into()));
        assert!(DRIVERS.iter().all(|(name, _)| crate::args::DRIVERS.contains(name)));
    }
}
