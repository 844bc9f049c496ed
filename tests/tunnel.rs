//! Behind an upgrade or a CONNECT, `Expect::Manual` holds the peer back as it does in a body.
#![cfg(feature = "std")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use vestibule::{Config, Connection, Event, Expect, Id, Inbox, Instant, Limits, Outbox, Pause, Wait};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

/// A server that upgrades, and counts what it is told.
struct Server {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    id: Option<Id>,
    told: usize,
    last: bool,
}

impl Server {
    fn new() -> Server {
        Server {
            connection: Connection::new(Arc::new(Config::new(Limits::DEFAULT)), Instant::ZERO),
            inbox: Inbox::new(vec![0; 1 << 18]),
            outbox: Outbox::new(vec![0; 8_192]),
            id: None,
            told: 0,
            last: false,
        }
    }

    fn turn(&mut self, how: Expect, release: u32) -> Pause {
        let mut turn = self.connection.turn(Instant::ZERO, &mut self.inbox, &mut self.outbox).unwrap();
        if let Some(mut reply) = self.id.and_then(|id| turn.reply(id)) {
            reply.release(release);
        }
        while let Some(event) = turn.next() {
            match event {
                Event::Request(mut request) => {
                    self.id = Some(request.reply.id());
                    request.reply.expect(how).upgrade("echo", &[]).unwrap();
                }
                Event::Tunnel(tunnel) => {
                    self.told += tunnel.bytes.len();
                    self.last |= tunnel.last;
                }
                event => panic!("not asked for: {event:?}"),
            }
        }
        turn.finish()
    }
}

#[test]
fn a_tunnel_waits_for_release_and_loses_nothing() {
    let mut server = Server::new();
    server.inbox.fill(GET);
    server.inbox.fill(&[b't'; 150_000]);
    server.inbox.end();
    let pause = server.turn(Expect::Manual, 0);
    let id = server.id.unwrap();
    assert_eq!((server.told, pause), (65_536, Pause::Caller(Wait::Release(id))));
    assert_eq!(server.turn(Expect::Manual, 0), Pause::Caller(Wait::Release(id)), "nothing was given back");
    assert_eq!(server.turn(Expect::Manual, 1_000), Pause::Caller(Wait::Release(id)));
    assert_eq!(server.told, 66_536);
    assert_eq!(server.turn(Expect::Manual, 65_536), Pause::Caller(Wait::Release(id)));
    assert_eq!((server.told, server.last), (132_072, false));
    assert_eq!(server.turn(Expect::Manual, 65_536), Pause::Caller(Wait::Reply(id)));
    assert_eq!((server.told, server.last), (150_000, true), "the end comes behind the last byte");
}

#[test]
fn every_other_choice_takes_a_tunnels_bytes_as_they_come() {
    let mut server = Server::new();
    server.inbox.fill(GET);
    server.inbox.fill(&[b't'; 150_000]);
    assert_eq!(server.turn(Expect::Stream, 0), Pause::Input { want: 1 });
    assert_eq!(server.told, 150_000);
}
