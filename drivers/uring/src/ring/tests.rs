//! The ring against this kernel. Where there is no io_uring they say so and do nothing.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Instant;

const SMALL: Sizes = Sizes { submissions: 8, buffers: 4, buffer_bytes: 512, zero_copy: None };

fn ring(sizes: Sizes, ports: Vec<Port>) -> Option<Ring> {
    if let Err(missing) = crate::check() {
        println!("skipped: {missing}");
        return None;
    }
    Some(Ring::new(sizes, ports).expect("the check has passed"))
}

/// The next completion; they all come within seconds.
fn next(ring: &mut Ring) -> Done<Lent, Socket> {
    let begun = Instant::now();
    loop {
        if let Some(done) = ring.next() {
            return done;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing completes");
        ring.turn(Some(Duration::from_millis(200))).expect("a ring");
    }
}

fn pair() -> (UnixStream, Socket) {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    (ours, Socket::new(theirs.into()))
}

fn key(slot: u64) -> Key {
    Key::from_bits(slot)
}

#[test]
fn what_is_lent_is_not_filled_again_and_an_empty_ring_is_told() {
    let Some(mut ring) = ring(SMALL, Vec::new()) else { return };
    let (mut peer, socket) = pair();
    ring.receive(&socket, key(1));
    let mut lent = Vec::new();
    for number in 0..4u8 {
        peer.write_all(&[number; 512]).unwrap();
        let Done::Received { result: Ok(Some((buffer, 512))), .. } = next(&mut ring) else { panic!("no buffer") };
        lent.push(buffer);
    }
    peer.write_all(b"one too many").unwrap();
    let Done::Received { result: Err(Errno::NO_BUFFERS), more: false, .. } = next(&mut ring) else {
        panic!("there was none")
    };
    for (number, buffer) in lent.iter().enumerate() {
        assert!(buffer.as_ref().iter().all(|&byte| byte == number as u8), "it was filled again");
    }
    assert_eq!(ring.lent(), 4);
    drop(lent);
    assert_eq!(ring.lent(), 0);
    ring.receive(&socket, key(1));
    let Done::Received { result: Ok(Some((buffer, 12))), more: true, .. } = next(&mut ring) else {
        panic!("nothing was lost")
    };
    assert_eq!(&buffer.as_ref()[..12], b"one too many");
}

/// DRV-09: more completions than the queue holds.
#[test]
fn a_completion_queue_that_overflows_loses_nothing() {
    overflows(|ring| ring);
}

/// It goes to the kernel twice where others go once.
#[test]
fn nor_does_one_of_a_ring_that_is_measured() {
    overflows(Ring::measured);
}

fn overflows(choose: fn(Ring) -> Ring) {
    let Some(ring) = ring(SMALL, Vec::new()) else { return };
    let mut ring = choose(ring);
    assert_eq!(ring.capacity(), 32);
    // Far more operations than the queue has room for: they wait, in their order.
    let mut pairs: Vec<_> = (0..200).map(|_| pair()).collect();
    for (number, (peer, socket)) in pairs.iter_mut().enumerate() {
        peer.write_all(&[number as u8; 3]).unwrap();
        ring.receive_into(socket, key(number as u64), Inbox::new(vec![0; 8]));
    }
    let mut came = vec![0; pairs.len()];
    for _ in 0..pairs.len() {
        let Done::Filled { key, inbox, result } = next(&mut ring) else { panic!("something else") };
        assert!(ring.in_flight() <= ring.capacity(), "{} in flight", ring.in_flight());
        assert_eq!((result, inbox.len()), (Ok(3), 3));
        assert_eq!(inbox.into_store()[..3], [key.slot() as u8; 3]);
        came[key.slot()] += 1;
    }
    assert!(came.iter().all(|&n| n == 1), "each operation completes once");
    // And one whose completions are many: what the kernel could not place comes later, or the accept ends and is asked for again.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut ring = choose(Ring::new(SMALL, vec![std::sync::Arc::new(listener)]).unwrap());
    let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let (mut accepted, mut asked) = (Vec::new(), 0);
    let mut armed = false;
    while accepted.len() < clients.len() {
        if !std::mem::replace(&mut armed, true) {
            ring.accept(0);
            asked += 1;
            assert!(asked <= 100);
        }
        if let Done::Accepted { result, more, .. } = next(&mut ring) {
            accepted.push(result.expect("a connection"));
            armed = more;
        }
    }
    println!("100 connections, {asked} accepts, {} flushes", ring.flushes);
    let mut ports: Vec<_> = accepted
        .into_iter()
        .map(|socket| TcpStream::from(socket.into_descriptor().unwrap()).peer_addr().unwrap().port())
        .collect();
    let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap().port()).collect();
    ports.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ports, expected);
}

#[test]
fn a_send_gives_its_storage_back_when_the_kernel_no_longer_reads_it() {
    for zero_copy in [None, Some(1)] {
        let Some(mut ring) = ring(Sizes { zero_copy, ..SMALL }, Vec::new()) else { return };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Socket::new(listener.accept().unwrap().0.into());
        let storage: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        let at = storage.as_ptr();
        ring.send(&socket, key(5), storage, 100..10_000);
        let mut back = match next(&mut ring) {
            Done::Sent { result: Ok(9_900), storage, .. } => storage.map(|(storage, _)| storage),
            other => panic!("{other:?}"),
        };
        assert_eq!(back.is_none(), zero_copy.is_some());
        let mut heard = vec![0; 9_900];
        peer.read_exact(&mut heard).unwrap();
        if back.is_none() {
            let Done::Returned { storage, .. } = next(&mut ring) else { panic!("no notification") };
            back = Some(storage);
        }
        let back = back.unwrap();
        assert_eq!(back.as_ptr(), at);
        assert!(back[100..] == heard);
    }
}

/// DRV-11: nothing that the kernel may write to is freed, and the end does not hang.
#[test]
fn a_ring_ends_with_everything_in_flight() {
    let Some(mut ring) = ring(SMALL, Vec::new()) else { return };
    let (peer, socket) = pair();
    let (other, filled) = pair();
    let receive = ring.receive(&socket, key(1));
    ring.receive_into(&filled, key(2), Inbox::new(vec![0; 100]));
    ring.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(ring.in_flight(), 3, "with the bell");
    ring.cancel(receive);
    let Done::Received { result: Err(Errno::CANCELLED), more: false, .. } = next(&mut ring) else {
        panic!("not cancelled")
    };
    ring.receive(&socket, key(1));
    let begun = Instant::now();
    drop(ring);
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop((socket, filled));
    // The operations have let go of the sockets: their peers see the end.
    assert_eq!(((&peer).read(&mut [0]).unwrap(), (&other).read(&mut [0]).unwrap()), (0, 0));
}

#[test]
fn a_bell_of_another_thread_ends_the_wait() {
    let Some(mut ring) = ring(SMALL, Vec::new()) else { return };
    let bell = ring.bell().unwrap();
    for _ in 0..3 {
        let bell = bell.try_clone().unwrap();
        let ringer = std::thread::spawn(move || (&bell).write_all(&1u64.to_ne_bytes()).unwrap());
        assert!(matches!(next(&mut ring), Done::Woken));
        ringer.join().unwrap();
    }
}

#[test]
fn a_measured_ring_tells_reading_from_writing_and_charges_nobody_for_waiting() {
    let Some(mut ring) = ring(SMALL, Vec::new()) else { return };
    assert_eq!(ring.spent(), None, "nobody wants to know");
    ring = ring.measured();
    let (mut peer, socket) = pair();
    ring.receive(&socket, key(1));
    ring.turn(Some(Duration::from_millis(50))).unwrap();
    let armed = ring.spent().unwrap();
    assert!(armed.reading > 0 && armed.writing == 0, "{armed:?}");
    ring.turn(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(ring.spent(), Some(Spent::default()), "nothing came of it");

    peer.write_all(&[7; 512]).unwrap();
    assert!(matches!(next(&mut ring), Done::Received { result: Ok(Some(_)), .. }));
    let received = ring.spent().unwrap();
    assert!(received.reading > 0 && received.writing == 0, "{received:?}");

    ring.send(&socket, key(1), vec![8; 100_000], 0..100_000);
    ring.turn(Some(Duration::ZERO)).unwrap();
    let sent = ring.spent().unwrap();
    assert!(sent.reading == 0 && sent.writing > 0, "{sent:?}");

    // Whoever waits for its peer for a second takes no second.
    let begun = Instant::now();
    let slow = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        peer.write_all(b"at last").unwrap();
        peer
    });
    while !matches!(next(&mut ring), Done::Received { .. }) {}
    let waited = ring.spent().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert!(waited.reading > 0 && waited.reading < 250_000_000, "{waited:?}");
    drop(slow.join());
}
