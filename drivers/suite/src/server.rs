//! In: a driver, a layout of it, and choices. Out: a server of the suite's routes that runs in this process, and looks at what it leaves behind.

use crate::client::{Client, LONG, connect};
use crate::service::{Gate, Routes};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vestibule_driver::listen::Address;
use vestibule_driver::{BindError, Builder, Driver, Handle, Server, Summary};

/// What a whole suite has in common beside its driver: a topology, what is offloaded.
pub type Layout<D> = fn(Builder<D>) -> Builder<D>;

/// A server on a free port. It stops when it is dropped, too.
#[derive(Debug)]
pub struct Running {
    pub http: SocketAddr,
    pub addrs: Vec<SocketAddr>,
    pub handle: Handle,
    pub gate: Arc<Gate>,
    said: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<Summary>>,
}

/// A server of the suite's routes.
pub fn start<D: Driver>(layout: Layout<D>, choose: impl FnOnce(Builder<D>) -> Builder<D>) -> Running {
    try_start(|builder| choose(layout(builder))).unwrap()
}

/// The same, if this driver has what was chosen.
///
/// # Errors
/// It has not.
pub fn try_start<D: Driver>(choose: impl FnOnce(Builder<D>) -> Builder<D>) -> Result<Running, BindError> {
    start_at("127.0.0.1:0".parse().unwrap(), choose)
}

/// The same at this address.
///
/// # Errors
/// The driver has not what was chosen, or the address cannot be had.
pub fn start_at<D: Driver>(
    address: Address,
    choose: impl FnOnce(Builder<D>) -> Builder<D>,
) -> Result<Running, BindError> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let (log, gate) = (said.clone(), Arc::new(Gate::default()));
    let its = gate.clone();
    let builder = Server::<D>::builder()
        .http(address)
        .service_with_post(move |_, post| Routes::new(post.clone(), its.clone()))
        .on_fault(move |incident| log.lock().unwrap().push(incident.to_string()));
    let server = choose(builder).bind()?;
    let (addrs, handle) = (server.local_addrs(), server.handle());
    let thread = Some(std::thread::spawn(|| server.run()));
    Ok(Running { http: addrs[0], addrs, handle, gate, said, thread })
}

impl Running {
    /// A raw connection to the plain port.
    pub fn connect(&self) -> TcpStream {
        connect(self.http)
    }

    /// A client for HTTP/1.1 on the plain port.
    pub fn client(&self) -> Client<TcpStream> {
        Client::new(self.connect())
    }

    /// A client for HTTP/2 on the plain port.
    pub fn h2(&self) -> crate::h2::Client<TcpStream> {
        crate::h2::Client::new(self.connect())
    }

    /// What the log was told.
    pub fn incidents(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Waits until so many lines are there.
    pub fn wait_for_incidents(&self, n: usize) -> Vec<String> {
        wait(&format!("{n} incidents"), || self.incidents().len() >= n);
        self.incidents()
    }

    /// Waits until every connection is closed and every storage is back, as it has to be without anybody's doing once all clients have gone.
    pub fn settle(&self) {
        wait("the last connection to close", || self.handle.open() == 0);
        wait("the last storage to come back", || self.handle.storages() == 0);
    }

    /// Waits for its end; nothing may be left.
    pub fn stop(mut self) -> Summary {
        self.handle.shutdown();
        self.gate.open();
        let summary = self.thread.take().unwrap().join().unwrap();
        wait("the last permit to come back", || self.handle.open() == 0);
        summary
    }
}

impl Running {
    /// Waits until it has ended by itself.
    pub fn wait(mut self) -> Summary {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gate.open();
        self.handle.shutdown();
    }
}

/// Waits until it is so.
pub fn wait(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < LONG, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
