//! In: sockets that listen already: a service manager's, a predecessor's, the caller's. Out: each of them once, by address or name.
//!
//! Whoever listens before the server begins and goes on when it ends loses no connection between: they wait in the queue.
//! systemd passes its sockets by socket activation (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`; sd_listen_fds(3)).

use crate::listen::{self, Address, ListenError, ListenOptions, Sockets};
use socket2::Socket;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Sockets from elsewhere that nobody has taken yet.
///
/// ```
/// use vestibule_driver::inherited::Inherited;
/// use vestibule_driver::listen::{Address, ListenOptions};
///
/// let mut inherited = Inherited::from_environment()?;
/// let mine = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let address = Address::from(mine.local_addr()?);
/// inherited.add(mine, Some("web"))?;
///
/// let listener = inherited.listen(&address, &ListenOptions::default(), 1)?; // had it not been there, it would be bound now
/// assert_eq!(listener.address(), &address);
/// assert_eq!(inherited.left().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default, Debug)]
pub struct Inherited {
    found: Vec<Found>,
}

#[derive(Debug)]
struct Found {
    name: Option<String>,
    address: Address,
    socket: Socket,
    /// Whether the file of a Unix socket is ours, if it can ever be.
    mark: Option<Arc<AtomicBool>>,
}

impl Inherited {
    /// Those that systemd, or another manager with the same protocol, has passed to this process. None if it has passed none. The second
    /// call in a process finds none.
    ///
    /// To be called before a thread or a library opens descriptors of its own by their numbers. The variables stay as they are: programs that this one
    /// starts see that `LISTEN_PID` is not theirs, and the sockets are closed for them.
    ///
    /// # Errors
    /// The variables contradict each other, or a descriptor is not a listening stream socket of TCP or with a path.
    pub fn from_environment() -> Result<Inherited, InheritError> {
        #[cfg(unix)]
        {
            let [pid, count, names] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(std::env::var_os);
            let text = |value: &'_ Option<std::ffi::OsString>| value.as_ref().map(|v| v.to_string_lossy().into_owned());
            let (pid, count, names) = (text(&pid), text(&count), text(&names));
            let passed = passed(std::process::id(), pid.as_deref(), count.as_deref(), names.as_deref())?;
            Inherited::take_passed(passed)
        }
        #[cfg(not(unix))]
        Ok(Inherited::default())
    }

    #[cfg(unix)]
    fn take_passed(names: Vec<Option<String>>) -> Result<Inherited, InheritError> {
        let mut inherited = Inherited::default();
        if names.is_empty() {
            return Ok(inherited);
        }
        let count = u16::try_from(names.len()).unwrap_or(u16::MAX);
        let descriptors = crate::sys::take_passed(count).map_err(|error| InheritError::new("LISTEN_FDS", error))?;
        for (number, (name, descriptor)) in names.into_iter().zip(descriptors).enumerate() {
            let failed = |error| {
                let name = name.as_deref().unwrap_or("unknown");
                InheritError::new(format!("passed socket {number} ({name})"), error)
            };
            rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
            inherited.add(descriptor, name.as_deref()).map_err(failed)?;
        }
        Ok(inherited)
    }

    /// One more socket: a [`socket2::Socket`], a [`std::net::TcpListener`], a `UnixListener`, an `OwnedFd`. It must listen.
    ///
    /// # Errors
    /// It is not a listening stream socket of TCP or with a path.
    pub fn add(&mut self, socket: impl Into<Socket>, name: Option<&str>) -> io::Result<()> {
        let socket = socket.into();
        let address = listen::checked(&socket)?;
        self.found.push(Found { name: name.map(str::to_owned), address, socket, mark: None });
        Ok(())
    }

    /// One from a predecessor: with the address as that knows it, and a mark that says from when on its file is ours.
    #[cfg(target_os = "linux")]
    pub(crate) fn add_taken(&mut self, socket: Socket, address: Address, mark: Option<Arc<AtomicBool>>) {
        self.found.push(Found { name: None, address, socket, mark });
    }

    /// The sockets that listen at this address, all of them as one listener. Of the options only `nodelay` can still be set.
    ///
    /// # Errors
    /// An option cannot be set, or the current folder is needed and gone.
    pub fn take(&mut self, address: &Address, options: &ListenOptions) -> io::Result<Option<Sockets>> {
        let wanted = match address {
            Address::Unix(path) => Address::Unix(std::path::absolute(path)?),
            tcp => tcp.clone(),
        };
        let exact = |found: &Found| found.address == wanted;
        let serves = |found: &Found| found.address.serves(&wanted) && !found.socket.only_v6().unwrap_or(true);
        let has = self.found.iter().find(|f| exact(f)).or_else(|| self.found.iter().find(|f| serves(f)));
        let Some(has) = has.map(|found| found.address.clone()) else { return Ok(None) };
        self.join(|found| found.address == has, options).map(|mut listeners| listeners.pop())
    }

    /// The sockets of this name, as one listener for each address.
    ///
    /// # Errors
    /// An option cannot be set.
    pub fn take_named(&mut self, name: &str, options: &ListenOptions) -> io::Result<Vec<Sockets>> {
        self.join(|found| found.name.as_deref() == Some(name), options)
    }

    /// Those that nobody has asked for, as one listener for each address.
    ///
    /// # Errors
    /// An option cannot be set.
    pub fn take_all(&mut self, options: &ListenOptions) -> io::Result<Vec<Sockets>> {
        self.join(|_| true, options)
    }

    /// The sockets at this address if there are some, and otherwise new ones.
    ///
    /// # Errors
    /// Neither can be had.
    pub fn listen(
        &mut self,
        address: &Address,
        options: &ListenOptions,
        members: usize,
    ) -> Result<Sockets, ListenError> {
        match self.take(address, options) {
            Ok(Some(listener)) => Ok(listener),
            Ok(None) => Sockets::bind(address, options, members),
            Err(error) => Err(ListenError { address: address.clone(), what: "inherited socket", error }),
        }
    }

    /// The names and addresses of those that nobody has taken. A server that ignores one leaves its clients without an answer.
    pub fn left(&self) -> impl Iterator<Item = (Option<&str>, &Address)> {
        self.found.iter().map(|found| (found.name.as_deref(), &found.address))
    }

    fn join(&mut self, wanted: impl Fn(&Found) -> bool, options: &ListenOptions) -> io::Result<Vec<Sockets>> {
        let (mut taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.found).into_iter().partition(wanted);
        self.found = left;
        let mut listeners = Vec::new();
        while let Some(first) = taken.first() {
            let address = first.address.clone();
            let (same, others): (Vec<_>, Vec<_>) = taken.into_iter().partition(|found| found.address == address);
            taken = others;
            let mark = same.iter().find_map(|found| found.mark.clone());
            let listener = Sockets::adopt(same.into_iter().map(|found| found.socket).collect(), options)?;
            listeners.push(owned(listener, mark));
        }
        Ok(listeners)
    }
}

#[cfg(unix)]
fn owned(mut listener: Sockets, mark: Option<Arc<AtomicBool>>) -> Sockets {
    if let Some(mark) = mark {
        listener.own_file(mark);
    }
    listener
}

#[cfg(not(unix))]
fn owned(listener: Sockets, _: Option<Arc<AtomicBool>>) -> Sockets {
    listener
}

/// More sockets than this are taken for a mistake.
#[cfg(unix)]
const MOST: usize = 1_024;

/// The names of the sockets that are passed to the process `own`; `None` for one that has no name.
#[cfg(unix)]
fn passed(
    own: u32,
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
) -> Result<Vec<Option<String>>, InheritError> {
    let wrong = |variable: &str, what| InheritError::new(variable, io::Error::new(io::ErrorKind::InvalidInput, what));
    let (Some(pid), Some(count)) = (pid, count) else { return Ok(Vec::new()) };
    let pid: u32 = pid.parse().map_err(|_| wrong("LISTEN_PID", "not the number of a process"))?;
    if pid != own {
        return Ok(Vec::new()); // meant for the one that started us
    }
    let count: usize = count.parse().map_err(|_| wrong("LISTEN_FDS", "not a number"))?;
    if count > MOST {
        return Err(wrong("LISTEN_FDS", "too many"));
    }
    let Some(names) = names.filter(|_| count > 0) else { return Ok(vec![None; count]) };
    // What has no name is called so by systemd.
    let name = |name: &str| (!name.is_empty() && name != "unknown").then(|| name.to_owned());
    let names: Vec<_> = names.split(':').take(MOST + 1).map(name).collect();
    if names.len() != count {
        return Err(wrong("LISTEN_FDNAMES", "not as many names as LISTEN_FDS says"));
    }
    Ok(names)
}

/// Sockets were passed, but cannot be taken.
#[derive(Debug)]
pub struct InheritError {
    what: String,
    error: io::Error,
}

impl InheritError {
    #[cfg(unix)]
    fn new(what: impl Into<String>, error: io::Error) -> InheritError {
        InheritError { what: what.into(), error }
    }
}

impl fmt::Display for InheritError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for InheritError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn some(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|name| (!name.is_empty()).then(|| (*name).to_owned())).collect()
    }

    #[test]
    fn the_variables_are_read_as_the_manual_says() {
        let read = |pid, count, names| passed(42, pid, count, names).map_err(|error| error.to_string());
        assert_eq!(read(Some("42"), Some("2"), Some("web:admin")), Ok(some(&["web", "admin"])));
        assert_eq!(read(Some("42"), Some("2"), Some("unknown:")), Ok(some(&["", ""])));
        assert_eq!(read(Some("42"), Some("3"), None), Ok(some(&["", "", ""])));
        for nothing in [(None, Some("2")), (Some("42"), None), (Some("43"), Some("2")), (Some("42"), Some("0"))] {
            assert_eq!(read(nothing.0, nothing.1, Some("web")), Ok(Vec::new()), "{nothing:?}");
        }
        for (pid, count, names, what) in [
            ("x", "1", None, "LISTEN_PID"),
            ("-42", "1", None, "LISTEN_PID"),
            ("42", "x", None, "LISTEN_FDS"),
            ("42", "-1", None, "LISTEN_FDS"),
            ("42", "1025", None, "too many"),
            ("42", "2", Some("web"), "LISTEN_FDNAMES"),
            ("42", "1", Some("web:admin"), "LISTEN_FDNAMES"),
        ] {
            let error = read(Some(pid), Some(count), names).expect_err(what);
            assert!(error.contains(what), "{error}");
        }
    }

    fn add(inherited: &mut Inherited, at: &str, name: Option<&str>) -> Address {
        let listener = TcpListener::bind(at).expect("a port");
        let address = listener.local_addr().expect("its port").into();
        inherited.add(listener, name).expect("it listens");
        address
    }

    #[test]
    fn each_is_taken_once_by_its_address_or_its_name() {
        let (mut inherited, options) = (Inherited::default(), ListenOptions::default());
        let web = add(&mut inherited, "127.0.0.1:0", Some("web"));
        let second = add(&mut inherited, "127.0.0.1:0", Some("web"));
        let admin = add(&mut inherited, "127.0.0.1:0", Some("admin"));
        let third = add(&mut inherited, "127.0.0.1:0", None);
        assert_eq!(inherited.left().collect::<Vec<_>>()[2], (Some("admin"), &admin));

        let listener = inherited.take(&admin, &options).expect("options can be set").expect("it is there");
        assert_eq!(listener.address(), &admin);
        assert!(inherited.take(&admin, &options).expect("nothing to fail").is_none());
        let named = inherited.take_named("web", &options).expect("options can be set");
        assert_eq!(named.iter().map(Sockets::address).collect::<Vec<_>>(), [&web, &second]);
        assert!(inherited.take_named("web", &options).expect("nothing to fail").is_empty());
        let rest = inherited.take_all(&options).expect("options can be set");
        assert_eq!(rest.iter().map(Sockets::address).collect::<Vec<_>>(), [&third]);
        assert_eq!(inherited.left().count(), 0);
    }

    #[test]
    fn sockets_at_one_address_become_one_group() {
        let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let group = Sockets::bind(&([127, 0, 0, 1], 0).into(), &options, 3).expect("a port");
        let mut inherited = Inherited::default();
        for member in group.members() {
            inherited.add(member.try_clone().expect("a descriptor"), None).expect("it listens");
        }
        let listener = inherited.listen(group.address(), &options, 8).expect("it is there");
        assert_eq!(listener.members().len(), 3, "its size stays");
        let fresh = inherited.listen(&([127, 0, 0, 1], 0).into(), &options, 2).expect("a port");
        assert_eq!(fresh.members().len(), 2, "none is there, so it is bound");
    }

    #[test]
    fn a_socket_for_all_addresses_of_both_kinds_serves_ipv4_unless_there_is_a_better_one() {
        let (mut inherited, options) = (Inherited::default(), ListenOptions::default());
        let Ok(both) = TcpListener::bind("[::]:0") else { return }; // a machine without IPv6
        let port = both.local_addr().expect("its port").port();
        inherited.add(both, None).expect("it listens");
        assert!(inherited.take(&([127, 0, 0, 1], port).into(), &options).expect("nothing to fail").is_none());
        let listener = inherited.take(&([0, 0, 0, 0], port).into(), &options).expect("options").expect("it serves");
        assert!(listener.address().tcp().is_some_and(|address| address.is_ipv6()));

        let only = ListenOptions { only_v6: Some(true), ..options.clone() };
        let only = Sockets::bind(&(std::net::Ipv6Addr::UNSPECIFIED, 0).into(), &only, 1).expect("a port");
        let port = only.address().tcp().expect("TCP").port();
        inherited.add(only.members()[0].try_clone().expect("a descriptor"), None).expect("it listens");
        assert!(inherited.take(&([0, 0, 0, 0], port).into(), &options).expect("nothing to fail").is_none());
        assert!(inherited.take(only.address(), &options).expect("options").is_some());
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let mut inherited = Inherited::default();
        let stream = std::os::unix::net::UnixStream::pair().expect("descriptors").0;
        assert!(inherited.add(stream, None).is_err());
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert!(inherited.add(std::os::fd::OwnedFd::from(file), None).is_err(), "no socket at all");
        assert_eq!(inherited.left().count(), 0);
    }
}
