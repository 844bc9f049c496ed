//! In: listening sockets with their addresses. Out: messages on a Unix socket, and back. All of them bounded, in size and in time.
//!
//! ```text
//!   hello     "vhand" 0, version (2)                                  both sides first
//!   sockets   length (4), for each address:
//!               kind (1) flags (1) sockets (2) length (2) address     the control socket's is the first
//!             then, until all descriptors are there:
//!               count (1) with as many descriptors
//! ```

use super::invalid;
use crate::doorbell::{Doorbell, Heard};
use crate::listen::{self, Address};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use socket2::Socket;
use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const HELLO: [u8; 8] = *b"vhand\0\0\x01";
pub(super) const READY: u8 = b'R';
pub(super) const GONE: u8 = b'G';

const TCP: u8 = 0;
const UNIX: u8 = 1;
const OWNS_FILE: u8 = 1;

/// The longest list of addresses.
const MOST_BYTES: usize = 65_536;
/// The most descriptors in all.
const MOST_SOCKETS: usize = 1_024;
/// The most descriptors in one message; the kernel's own limit is 253.
const BATCH: usize = 64;

/// The sockets of one address.
#[derive(Clone, Debug)]
pub(super) struct Lot<S> {
    pub(super) address: Address,
    pub(super) sockets: Vec<S>,
    /// The sender removes the file at its end, so the receiver is to do it.
    pub(super) owns_file: bool,
}

/// What a successor is given.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) control: (Address, Socket),
    pub(super) lots: Vec<Lot<Socket>>,
}

/// One side of the conversation.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Socket,
    /// Ends every wait.
    bell: Arc<Doorbell>,
    start: Instant,
    most: Duration,
}

impl Wire {
    pub(super) fn new(stream: Socket, bell: Arc<Doorbell>) -> io::Result<Wire> {
        stream.set_nonblocking(false)?;
        Ok(Wire { stream, bell, start: Instant::now(), most: Duration::ZERO })
    }

    /// What follows must be over in this time.
    pub(super) fn within(&mut self, most: Duration) {
        (self.start, self.most) = (Instant::now(), most);
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.most.checked_sub(self.start.elapsed()).filter(|left| !left.is_zero());
        left.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// Waits for bytes, or for the end of the stream.
    fn wait(&self) -> io::Result<()> {
        match self.bell.wait(&[self.stream.as_fd()], Some(self.left()?))? {
            Heard::Ready(_) => Ok(()),
            Heard::Bell => Err(io::ErrorKind::ConnectionAborted.into()),
            Heard::Nothing => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match (&self.stream).write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<()> {
        let mut rest = into;
        while !rest.is_empty() {
            self.wait()?;
            match (&self.stream).read(rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn receive_byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.receive(&mut byte)?;
        Ok(byte[0])
    }

    pub(super) fn send_hello(&mut self) -> io::Result<()> {
        self.send(&HELLO)
    }

    pub(super) fn receive_hello(&mut self) -> io::Result<()> {
        let mut hello = [0; HELLO.len()];
        self.receive(&mut hello)?;
        match hello == HELLO {
            true => Ok(()),
            false if hello.starts_with(b"vhand\0") => Err(invalid("the other side speaks another version")),
            false => Err(invalid("the other side does not hand over sockets")),
        }
    }

    /// Sends the control socket and all others.
    pub(super) fn send_sockets(&mut self, control: &Lot<Arc<Socket>>, lots: &[Lot<Arc<Socket>>]) -> io::Result<()> {
        let mut list = vec![0; 4];
        let mut sockets = Vec::new();
        for lot in std::iter::once(control).chain(lots) {
            write_lot(&mut list, lot)?;
            sockets.extend(lot.sockets.iter().map(AsFd::as_fd));
        }
        let length = list.len().saturating_sub(4);
        if length > MOST_BYTES || sockets.len() > MOST_SOCKETS {
            return Err(invalid("more sockets than can be handed over"));
        }
        for (to, from) in list.iter_mut().zip(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()) {
            *to = from;
        }
        self.send(&list)?;
        for batch in sockets.chunks(BATCH) {
            self.stream.set_write_timeout(Some(self.left()?))?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(batch)); // there is room for a batch
            let count = [u8::try_from(batch.len()).unwrap_or(u8::MAX)];
            rustix::io::retry_on_intr(|| {
                sendmsg(&self.stream, &[IoSlice::new(&count)], &mut control, SendFlags::NOSIGNAL)
            })?;
        }
        Ok(())
    }

    /// Receives the control socket, and all others. Each of them listens at the address that goes with it.
    pub(super) fn receive_sockets(&mut self) -> io::Result<Received> {
        let mut length = [0; 4];
        self.receive(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MOST_BYTES {
            return Err(invalid("the list of addresses is too long"));
        }
        let mut list = vec![0; length];
        self.receive(&mut list)?;
        let lots = read_lots(&list)?;
        let count = lots.iter().map(|lot| lot.sockets.len()).sum();
        let mut sockets = self.receive_descriptors(count)?.into_iter().map(Socket::from);
        let mut filled = Vec::with_capacity(lots.len());
        for lot in lots {
            let sockets: Vec<_> = sockets.by_ref().take(lot.sockets.len()).collect();
            for socket in &sockets {
                match (listen::checked(socket)?, &lot.address) {
                    // A path is the sender's; it knows it whole, the socket as it was bound.
                    (Address::Unix(_), Address::Unix(_)) => {}
                    (address, wanted) if address == *wanted => {}
                    _ => return Err(invalid("a socket has another address than was said")),
                }
            }
            filled.push(Lot { address: lot.address, sockets, owns_file: lot.owns_file });
        }
        let mut filled = filled.into_iter();
        let control = filled.next().ok_or_else(|| invalid("no control socket"))?;
        let socket = control.sockets.into_iter().next().ok_or_else(|| invalid("no control socket"))?;
        Ok(Received { control: (control.address, socket), lots: filled.collect() })
    }

    /// Receives exactly so many descriptors. Whatever comes is owned, so an error closes it.
    fn receive_descriptors(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut descriptors = Vec::with_capacity(count);
        while descriptors.len() < count {
            self.wait()?;
            let mut said = [0];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::io::retry_on_intr(|| {
                recvmsg(&self.stream, &mut [IoSliceMut::new(&mut said)], &mut control, RecvFlags::CMSG_CLOEXEC)
            })?;
            let before = descriptors.len();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            if received.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let came = descriptors.len() - before;
            if received.flags.contains(ReturnFlags::CTRUNC) || came == 0 || came != usize::from(said[0]) {
                return Err(invalid("not as many descriptors as were said")); // or this process may have no more
            }
        }
        match descriptors.len() == count {
            true => Ok(descriptors),
            false => Err(invalid("more descriptors than addresses")),
        }
    }
}

fn write_lot(list: &mut Vec<u8>, lot: &Lot<Arc<Socket>>) -> io::Result<()> {
    let (kind, address) = match &lot.address {
        Address::Tcp(address) => (TCP, address.to_string().into_bytes()),
        Address::Unix(path) => (UNIX, path.as_os_str().as_bytes().to_vec()),
    };
    let number = |n: usize| u16::try_from(n).map_err(|_| invalid("more sockets than can be handed over"));
    list.extend([kind, if lot.owns_file { OWNS_FILE } else { 0 }]);
    list.extend(number(lot.sockets.len())?.to_be_bytes());
    list.extend(number(address.len())?.to_be_bytes());
    list.extend(address);
    Ok(())
}

/// The lots of a list, with a unit in the place of each socket.
fn read_lots(list: &[u8]) -> io::Result<Vec<Lot<()>>> {
    let mut lots = Vec::new();
    let (mut rest, mut count) = (list, 0);
    while let Some((head, more)) = rest.split_first_chunk::<6>() {
        let &[kind, flags, sockets @ .., l0, l1] = head;
        let sockets = usize::from(u16::from_be_bytes(sockets));
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (address, after) = more.split_at_checked(length).ok_or_else(|| invalid("the list is cut off"))?;
        rest = after;
        count += sockets;
        if sockets == 0 || count > MOST_SOCKETS || flags & !OWNS_FILE != 0 {
            return Err(invalid("a list that no predecessor sends"));
        }
        let text = || std::str::from_utf8(address).ok()?.parse().ok();
        let address = match kind {
            TCP => text().map(Address::Tcp).ok_or_else(|| invalid("not an address"))?,
            UNIX if address.starts_with(b"/") && !address.contains(&0) => {
                Address::Unix(OsStr::from_bytes(address).into())
            }
            _ => return Err(invalid("not an address")),
        };
        lots.push(Lot { address, sockets: vec![(); sockets], owns_file: flags & OWNS_FILE != 0 });
    }
    match rest.is_empty() {
        true => Ok(lots),
        false => Err(invalid("the list is cut off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> (Wire, Wire) {
        let (a, b) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("descriptors");
        let wire = |socket| {
            let bell = Arc::new(Doorbell::new().expect("descriptors"));
            let mut wire = Wire::new(socket, bell).expect("an option");
            wire.within(Duration::from_secs(60));
            wire
        };
        (wire(a), wire(b))
    }

    fn lot(sockets: usize) -> Lot<Arc<Socket>> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its port").into();
        let socket = Arc::new(Socket::from(listener));
        Lot { address, sockets: vec![socket; sockets], owns_file: false }
    }

    #[test]
    fn as_many_as_fit_arrive_with_their_addresses() {
        let (mut from, mut to) = pair();
        let (control, lots) = (lot(1), [lot(1), lot(130), lot(63)]);
        std::thread::scope(|scope| {
            scope.spawn(|| from.send_sockets(&control, &lots).expect("all of it is taken"));
            let received = to.receive_sockets().expect("all of it comes");
            assert_eq!(received.control.0, control.address);
            let sizes: Vec<_> = received.lots.iter().map(|lot| (lot.address.clone(), lot.sockets.len())).collect();
            let wanted: Vec<_> = lots.iter().map(|lot| (lot.address.clone(), lot.sockets.len())).collect();
            assert_eq!(sizes, wanted);
        });
        let error = from.send_sockets(&control, &[lot(MOST_SOCKETS)]).expect_err("one more than that");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_socket_that_is_not_what_was_said_is_not_taken() {
        let (a, b) = (lot(1), lot(1));
        let deaf = Arc::new(Socket::from(std::net::UdpSocket::bind("127.0.0.1:0").expect("a port")));
        for sockets in [b.sockets, vec![deaf]] {
            let (mut from, mut to) = pair();
            let lie = Lot { address: a.address.clone(), sockets, owns_file: false };
            from.send_sockets(&a, &[lie]).expect("it fits into the socket");
            assert!(to.receive_sockets().is_err());
        }
    }

    #[test]
    fn sizes_that_are_said_are_held_to() {
        let bytes = |bytes: &[u8]| {
            let (mut from, mut to) = pair();
            from.send(bytes).expect("it fits into the socket");
            drop(from);
            to.receive_sockets().expect_err("nonsense").to_string()
        };
        assert!(bytes(&[0, 1, 0, 1]).contains("too long"));
        assert!(bytes(&[0, 0, 0, 0]).contains("no control socket"));
        let list = b"\0\0\0\x11\0\0\0\x01\0\x0b127.0.0.1:1";
        assert!(bytes(list).contains("end of file"), "no descriptors follow");
        assert!(bytes(&[&list[..], &[1]].concat()).contains("not as many"), "a byte without one");
    }

    #[test]
    fn hello_tells_versions_from_nonsense() {
        for (bytes, what) in [(b"vhand\0\0\x02", "another version"), (b"GET / HT", "does not hand over")] {
            let (mut from, mut to) = pair();
            from.send(bytes).expect("room");
            assert!(to.receive_hello().expect_err(what).to_string().contains(what));
        }
    }

    #[test]
    fn the_time_and_the_bell_end_a_wait() {
        let (_from, mut to) = pair();
        to.within(Duration::from_millis(1));
        assert_eq!(to.receive_byte().expect_err("nothing comes").kind(), io::ErrorKind::TimedOut);
        to.within(Duration::from_secs(60));
        to.bell.ring();
        assert_eq!(to.receive_byte().expect_err("it rang").kind(), io::ErrorKind::ConnectionAborted);
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[test]
        fn no_list_makes_it_panic_or_ask_for_more_than_may_be(list: Vec<u8>) {
            if let Ok(lots) = read_lots(&list) {
                prop_assert!(lots.iter().map(|lot| lot.sockets.len()).sum::<usize>() <= MOST_SOCKETS);
            }
        }

        #[test]
        fn a_list_is_read_as_it_was_written(port: u16, path in "/[a-z /]{0,90}", counts in prop::collection::vec(1usize..5, 1..5), owns_file: bool) {
            let socket = Arc::new(Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket"));
            let mut list = Vec::new();
            let mut wanted = Vec::new();
            for (n, count) in counts.into_iter().enumerate() {
                let address = if n % 2 == 0 { Address::from(([127, 0, 0, 1], port)) } else { Address::Unix(path.clone().into()) };
                wanted.push((address.clone(), count, owns_file));
                write_lot(&mut list, &Lot { address, sockets: vec![socket.clone(); count], owns_file }).expect("short");
            }
            let read: Vec<_> = read_lots(&list).expect("ours").into_iter().map(|l| (l.address, l.sockets.len(), l.owns_file)).collect();
            prop_assert_eq!(read, wanted);
            list.pop();
            prop_assert!(read_lots(&list).is_err());
        }
    }
}
