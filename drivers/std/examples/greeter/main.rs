//! A greeter that speaks gRPC over plain HTTP/2, on 127.0.0.1: `cargo run -p vestibule-std --example greeter [PORT]`.
//!
//! The service is in `service.rs`. Without a port it is 50051; 0 is any that is free.

mod service;

use service::Greeter;
use std::net::{Ipv4Addr, SocketAddr};
use vestibule_std::Server;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(50_051), |port| port.parse())?;
    let server = Server::builder()
        .http(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
        .limits(service::limits()?)
        .signals(true)
        .service(|_peer| Greeter::default())
        .bind()?;
    for addr in server.local_addrs() {
        eprintln!("listening on {addr}");
    }
    eprintln!("{}", server.run());
    Ok(())
}
