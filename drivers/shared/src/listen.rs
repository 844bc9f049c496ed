//! In: an address and options. Out: the sockets that listen there, their file, and what is accepted from them.
//!
//! ```text
//!   supervisor: Sockets { members: [ socket, socket, .. ], file }     outlives its workers (DRV-03)
//!                               |        |
//!                          worker 0   worker 1     each holds clones of the members it accepts from
//! ```
//!
//! The members of a SO_REUSEPORT group each have an accept queue. A queue dies with its last descriptor and its connections are reset, so
//! the group is made whole before the first connection can come, keeps its size, and no member is ever opened for a trial.

use crate::listen::file::SocketFile;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(unix)]
pub(crate) mod file;
#[cfg(not(unix))]
pub(crate) mod file {
    //! No Unix sockets, so no files of theirs.

    #[derive(Debug)]
    pub(crate) enum SocketFile {}
}

/// Where a server listens.
///
/// ```
/// use vestibule_driver::listen::Address;
///
/// assert_eq!("127.0.0.1:8080".parse(), Ok(Address::Tcp(([127, 0, 0, 1], 8080).into())));
/// assert_eq!("unix:/run/shop.sock".parse(), Ok(Address::Unix("/run/shop.sock".into())));
/// assert_eq!("/run/shop.sock".parse(), Ok(Address::Unix("/run/shop.sock".into())));
/// assert!("localhost".parse::<Address>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// An IP address and a port; port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The IP address and port, if it has one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// The path, if it has one.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Address::Tcp(_) => None,
            Address::Unix(path) => Some(path),
        }
    }

    /// The address of a socket.
    ///
    /// # Errors
    /// Neither TCP nor a Unix socket with a path.
    pub fn of(socket: &Socket) -> io::Result<Address> {
        let address = socket.local_addr()?;
        let unix = || address.as_pathname().map(|path| Address::Unix(path.to_owned()));
        let error = || io::Error::new(io::ErrorKind::InvalidInput, "neither TCP nor a Unix socket with a path");
        address.as_socket().map(Address::Tcp).or_else(unix).ok_or_else(error)
    }

    /// Whether a socket that listens at `self` gets what is meant for `wanted`: the same address, or all addresses of both kinds of IP.
    pub fn serves(&self, wanted: &Address) -> bool {
        match (self, wanted) {
            (Address::Tcp(has), Address::Tcp(wanted)) if has.port() == wanted.port() => {
                has.ip() == wanted.ip() || has.is_ipv6() && has.ip().is_unspecified() && wanted.ip().is_unspecified()
            }
            _ => self == wanted,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from(address: (I, u16)) -> Address {
        Address::Tcp(address.into())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Address {
        Address::Unix(path)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Address {
        Address::Unix(path.into())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// `127.0.0.1:80`, `[::]:80`, `unix:PATH`, or a path that begins with a slash.
    fn from_str(text: &str) -> Result<Address, AddressError> {
        let path = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text));
        match path {
            Some("") => Err(AddressError),
            Some(path) => Ok(Address::Unix(path.into())),
            None => text.parse().map(Address::Tcp).map_err(|_| AddressError),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A text is no [`Address`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither IP:PORT, nor unix:PATH, nor a path that begins with a slash")
    }
}

impl std::error::Error for AddressError {}

/// How to listen. What the system lacks is an error that names it. Those that speak of TCP do not concern Unix sockets.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ListenOptions {
    /// How many connections may wait to be accepted, by each socket. The kernel has a limit of its own.
    pub backlog: u16,
    /// TCP: a socket for each worker, all at the same address (SO_REUSEPORT). Beware: a second server of the same user can join the
    /// group unnoticed.
    pub reuse_port: bool,
    /// TCP over IPv6: whether `[::]` is IPv6 alone or IPv4 as well (IPV6_V6ONLY). Without, the system decides.
    pub only_v6: Option<bool>,
    /// TCP: answers are sent at once, not held back to be joined with later ones (TCP_NODELAY).
    pub nodelay: bool,
    /// TCP, Linux: a connection is accepted when its first bytes are there, or after so long (TCP_DEFER_ACCEPT; whole seconds).
    pub defer_accept: Option<Duration>,
    /// TCP, Linux: clients that were here before may send data with their SYN; so many such connections may be pending
    /// (TCP_FASTOPEN; RFC 7413). What such data asks for may happen twice. The system must allow it (`net.ipv4.tcp_fastopen`).
    pub fast_open: Option<u16>,
    /// Unix sockets: the permissions of the file, such as 0o660. Without, the process's mask decides.
    pub unix_mode: Option<u32>,
}

impl Default for ListenOptions {
    /// A backlog of 1,024, TCP_NODELAY, one socket for all.
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 1_024,
            reuse_port: false,
            only_v6: None,
            nodelay: true,
            defer_accept: None,
            fast_open: None,
            unix_mode: None,
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct ListenError {
    /// Which address.
    pub address: Address,
    /// What failed: an option by its name in [`ListenOptions`], or a call.
    pub what: &'static str,
    /// What the system says.
    pub error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}: {}", self.address, self.what, self.error)
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The name of what failed, and how.
type Failed = (&'static str, io::Error);

/// The sockets of one address. None of them blocks. Whoever owns this keeps the accept queues alive, whatever becomes of the workers.
#[derive(Debug)]
pub struct Sockets {
    address: Address,
    members: Vec<Arc<Socket>>,
    file: Option<SocketFile>,
}

impl Sockets {
    /// Listens; with `reuse_port` on TCP by so many sockets, otherwise by one. Of port 0 the first socket decides the port.
    ///
    /// A Unix socket whose file is there but on which nobody listens is replaced.
    ///
    /// # Errors
    /// Which address, which option or call, and what the system says.
    pub fn bind(address: &Address, options: &ListenOptions, members: usize) -> Result<Sockets, ListenError> {
        let result = match address {
            Address::Tcp(address) => bind_tcp(*address, options, members.max(1)),
            Address::Unix(path) => bind_unix(path, options),
        };
        result.map_err(|(what, error)| ListenError { address: address.clone(), what, error })
    }

    /// Sockets from elsewhere that listen at one address already. `nodelay` of the options is set, the others had their time.
    ///
    /// # Errors
    /// There is none, one does not listen or is no stream socket, they have different addresses, or an option cannot be set.
    pub fn adopt(sockets: Vec<Socket>, options: &ListenOptions) -> io::Result<Sockets> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let address = checked(sockets.first().ok_or_else(|| invalid("no socket"))?)?;
        for socket in &sockets {
            if checked(socket)? != address {
                return Err(invalid("sockets of one listener with different addresses"));
            }
            if options.nodelay && address.tcp().is_some() {
                socket.set_tcp_nodelay(true)?;
            }
            socket.set_nonblocking(true)?;
        }
        Ok(Sockets { address, members: sockets.into_iter().map(Arc::new).collect(), file: None })
    }

    /// Where it listens, with the true port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// All its sockets: one, or the members of the group.
    pub fn members(&self) -> &[Arc<Socket>] {
        &self.members
    }

    /// The sockets that worker `worker` of `workers` accepts from. Each worker has at least one and each socket at least one worker,
    /// also if their numbers differ: a group that was handed over keeps its size.
    pub fn share(&self, worker: usize, workers: usize) -> impl Iterator<Item = &Arc<Socket>> {
        let (workers, count) = (workers.max(1), self.members.len().max(1));
        let worker = worker % workers;
        let mine = move |n: usize| if count >= workers { n % workers == worker } else { n == worker % count };
        self.members.iter().enumerate().filter(move |(n, _)| mine(*n)).map(|(_, socket)| socket)
    }

    /// The file of its Unix socket is somebody else's from now on: it stays when this is dropped.
    pub fn leave_file(&self) {
        if let Some(mark) = self.mark() {
            mark.store(false, Ordering::Relaxed);
        }
    }

    /// Whether the file of its Unix socket goes when this is dropped.
    pub fn owns_file(&self) -> bool {
        self.mark().is_some_and(|mark| mark.load(Ordering::Relaxed))
    }

    /// Whether it owns its file, for others to change.
    #[cfg(unix)]
    pub(crate) fn mark(&self) -> Option<&Arc<AtomicBool>> {
        self.file.as_ref().map(SocketFile::mark)
    }

    #[cfg(not(unix))]
    pub(crate) fn mark(&self) -> Option<&Arc<AtomicBool>> {
        None
    }

    /// Its file goes when this is dropped, if `mark` says so then.
    #[cfg(unix)]
    pub(crate) fn own_file(&mut self, mark: Arc<AtomicBool>) {
        self.file = self.address.unix().and_then(|path| SocketFile::of(path, mark));
    }
}

/// The address of a listening stream socket.
///
/// # Errors
/// It is not one, or has another kind of address.
pub(crate) fn checked(socket: &Socket) -> io::Result<Address> {
    if socket.r#type()? != Type::STREAM || !listens(socket)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening stream socket"));
    }
    Address::of(socket)
}

/// A group that is whole before it listens: a connection that comes while members join could be given to one and end up at another.
fn bind_tcp(address: SocketAddr, options: &ListenOptions, members: usize) -> Result<Sockets, Failed> {
    let members = if options.reuse_port { members } else { 1 };
    let mut address = address;
    let mut sockets = Vec::with_capacity(members);
    for _ in 0..members {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
        let socket = socket.map_err(|error| ("socket", error))?;
        set_options(&socket, options)?;
        if let Some(only) = options.only_v6.filter(|_| address.is_ipv6()) {
            socket.set_only_v6(only).map_err(|error| ("only_v6", error))?;
        }
        socket.bind(&address.into()).map_err(|error| ("bind", error))?;
        let bound = socket.local_addr().map_err(|error| ("getsockname", error))?;
        address = bound.as_socket().unwrap_or(address);
        sockets.push(socket);
    }
    let mut members = Vec::with_capacity(sockets.len());
    for socket in sockets {
        listen(&socket, options)?;
        members.push(Arc::new(socket));
    }
    Ok(Sockets { address: Address::Tcp(address), members, file: None })
}

fn set_options(socket: &Socket, options: &ListenOptions) -> Result<(), Failed> {
    // A server that comes back at once must get its port, whatever connections of its past still linger (TIME_WAIT).
    #[cfg(unix)]
    socket.set_reuse_address(true).map_err(|error| ("SO_REUSEADDR", error))?;
    if options.reuse_port {
        set_reuse_port(socket).map_err(|error| ("reuse_port", error))?;
    }
    if options.nodelay {
        // Accepted sockets inherit it, so that it costs nothing for each of them.
        socket.set_tcp_nodelay(true).map_err(|error| ("nodelay", error))?;
    }
    if let Some(wait) = options.defer_accept {
        // The kernel counts in retransmissions, and zero would be "not at all".
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
        set_tcp(socket, Tcp::DeferAccept, i32::try_from(seconds).unwrap_or(i32::MAX))
            .map_err(|error| ("defer_accept", error))?;
    }
    if let Some(pending) = options.fast_open {
        set_tcp(socket, Tcp::FastOpen, i32::from(pending)).map_err(|error| ("fast_open", error))?;
    }
    Ok(())
}

#[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos")))))]
fn set_reuse_port(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
use crate::sys::{TcpOption as Tcp, set_tcp};

#[cfg(not(target_os = "linux"))]
enum Tcp {
    DeferAccept,
    FastOpen,
}

#[cfg(not(target_os = "linux"))]
fn set_tcp(_: &Socket, _: Tcp, _: i32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn listen(socket: &Socket, options: &ListenOptions) -> Result<(), Failed> {
    // Never blocking, here and in every process that is given it: the flag belongs to the socket, not to the descriptor.
    socket.set_nonblocking(true).map_err(|error| ("O_NONBLOCK", error))?;
    socket.listen(i32::from(options.backlog)).map_err(|error| ("listen", error))
}

#[cfg(unix)]
fn bind_unix(path: &Path, options: &ListenOptions) -> Result<Sockets, Failed> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(|error| ("socket", error))?;
    let (file, lock) = SocketFile::bind(&socket, path).map_err(|error| ("bind", error))?;
    if let Some(mode) = options.unix_mode {
        use std::os::unix::fs::PermissionsExt;
        // Before it listens: until then nobody can connect.
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), permissions).map_err(|error| ("unix_mode", error))?;
    }
    listen(&socket, options)?;
    drop(lock);
    let address = Address::Unix(file.path().to_owned());
    Ok(Sockets { address, members: vec![Arc::new(socket)], file: Some(file) })
}

#[cfg(not(unix))]
fn bind_unix(_: &Path, _: &ListenOptions) -> Result<Sockets, Failed> {
    Err(("Unix sockets", io::ErrorKind::Unsupported.into()))
}

#[cfg(unix)]
fn listens(socket: &Socket) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(socket)?)
}

#[cfg(not(unix))]
fn listens(_: &Socket) -> io::Result<bool> {
    Ok(true)
}

/// A connection out of the queue.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket: closed by a program that this one starts, and blocking or not, as was asked for.
    pub socket: Socket,
    /// Whose it is; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
}

/// Takes one connection out of a listener's queue, on Linux with one system call. TCP_NODELAY is what the listener has.
///
/// # Errors
/// For [`Acceptor`](crate::accept::Acceptor) to judge. `WouldBlock` if there is none.
pub fn accept(member: &Socket, nonblocking: bool) -> io::Result<Accepted> {
    #[cfg(target_os = "linux")]
    {
        use rustix::net::{SocketFlags, acceptfrom_with};
        let mut flags = SocketFlags::CLOEXEC;
        flags.set(SocketFlags::NONBLOCK, nonblocking);
        let (socket, peer) = acceptfrom_with(member, flags)?;
        Ok(Accepted { socket: socket.into(), peer: peer.and_then(|peer| SocketAddr::try_from(peer).ok()) })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let (socket, peer) = member.accept()?;
        let peer = peer.as_socket();
        // Whether the flag of the listener is inherited differs from system to system.
        socket.set_nonblocking(nonblocking)?;
        if peer.is_some() {
            socket.set_tcp_nodelay(member.tcp_nodelay()?)?;
        }
        Ok(Accepted { socket, peer })
    }
}

/// Takes what waits in the queues, before they are closed for good: the kernel would reset it. At most `most`, since more may come as
/// fast. How many it were.
pub fn accept_rest<'a>(
    members: impl IntoIterator<Item = &'a Arc<Socket>>,
    nonblocking: bool,
    most: usize,
    mut take: impl FnMut(Accepted),
) -> usize {
    let mut count = 0;
    for member in members {
        while count < most {
            match accept(member, nonblocking) {
                Ok(accepted) => {
                    count += 1;
                    take(accepted);
                }
                Err(error) if crate::accept::Judgement::of(&error) == crate::accept::Judgement::Passing => count += 1,
                Err(_) => break,
            }
        }
    }
    count
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
