//! In: ciphertext from the driver, plaintext from the machine. Out: the other of each, made on a crypto thread.
//!
//! ```text
//!  inbox --> raw ==>  [ Tls ]  ==> opened --> plain inbox --> machine
//!                    a thread                                    |
//!  outbox <- sealed <== [ Tls ] <== to_seal <-- plain outbox <---+
//! ```
//!
//! The TLS machine goes there and back with its bytes, so a connection's records are in order on any number of threads. While
//! it is away its connection waits: at most one round of records is under way.

use super::Own;
use crate::port::Port;
use std::sync::Arc;
use vestibule::accept::proxy::{Endpoints, Item, Receiver};
use vestibule::decrypt::{Opened, Tls};
use vestibule::{Config, Inbox, Instant, Limit, Outbox, OwnedSession, Rule, Violation};

/// So much is taken on at once, in each direction.
const ROUND: usize = 65_536;
/// How long a peer that got an alert may take to leave.
const LINGER_MS: u64 = 2_000;

/// TLS of one connection, with its bytes on the way.
pub(super) struct Cipher {
    tls: Tls,
    /// A PROXY header is to come first.
    proxy: Option<Receiver>,
    source: Option<Endpoints>,
    config: Arc<Config>,
    port: Arc<Port>,
    raw: Vec<u8>,
    opened: Vec<u8>,
    to_seal: Vec<u8>,
    sealed: Vec<u8>,
    /// The peer's bytes have ended.
    ended: bool,
    /// close_notify is to go out behind what is to be sealed.
    close: bool,
    closed: bool,
    /// Nothing more will be opened.
    over: bool,
    failed: Option<Violation>,
}

impl Cipher {
    fn new(tls: Tls, config: Arc<Config>, port: Arc<Port>, proxied: bool) -> Cipher {
        Cipher {
            tls,
            proxy: proxied.then(Receiver::new),
            source: None,
            config,
            port,
            raw: Vec::new(),
            opened: Vec::new(),
            to_seal: Vec::new(),
            sealed: Vec::new(),
            ended: false,
            close: false,
            closed: false,
            over: false,
            failed: None,
        }
    }

    /// Bytes that wait for it.
    pub(super) fn waiting(&self) -> usize {
        self.raw.len() + self.to_seal.len()
    }

    /// Everything that can be done now, on whatever thread this is.
    pub(super) fn work(&mut self, now: Instant) {
        self.seal();
        self.open(now);
        self.seal();
        if self.close && !self.closed && self.to_seal.is_empty() {
            self.closed = true;
            self.tls.close();
        }
        self.flush();
    }

    fn flush(&mut self) {
        while self.tls.pending() > 0 {
            let begin = self.sealed.len();
            self.sealed.resize(begin + self.tls.pending().max(Tls::FLUSH_ROOM), 0);
            let n = self.tls.flush(self.sealed.get_mut(begin..).unwrap_or_default());
            self.sealed.truncate(begin + n);
            if n == 0 {
                return;
            }
        }
    }

    fn seal(&mut self) {
        self.flush();
        while !self.to_seal.is_empty() && !self.tls.is_handshaking() && self.failed.is_none() {
            let (begin, records) = (self.sealed.len(), self.to_seal.len() / Tls::FRAGMENT + 1);
            self.sealed.resize(begin + self.to_seal.len() + records * (Tls::HEADER_MOST + Tls::TRAILER_MOST), 0);
            let room = self.sealed.get_mut(begin..).unwrap_or_default();
            match self.tls.seal_from(&self.to_seal, room) {
                Ok((taken, written)) => {
                    self.sealed.truncate(begin + written);
                    self.to_seal.drain(..taken);
                    self.flush();
                    if taken == 0 {
                        return;
                    }
                }
                Err(violation) => {
                    self.sealed.truncate(begin);
                    self.fail(violation);
                }
            }
        }
    }

    /// The PROXY header in front of TLS, if one is to come: how long it is, once it is there.
    fn open_header(&mut self) -> usize {
        let Some(receiver) = &mut self.proxy else { return 0 };
        match receiver.step(&self.raw, self.config.limits()) {
            Ok(Item::Need { .. }) => 0,
            Ok(Item::Header(found)) => {
                (self.proxy, self.source) = (None, found.endpoints);
                found.len as usize
            }
            Err(violation) => {
                self.fail(violation);
                0
            }
        }
    }

    fn open(&mut self, now: Instant) {
        let (mut at, mut starved) = (self.open_header(), self.proxy.is_some());
        while self.proxy.is_none() && !self.over && self.failed.is_none() && self.opened.len() < ROUND {
            let raw = self.raw.get_mut(at..).unwrap_or_default();
            match self.tls.open(self.config.limits(), now, raw) {
                Ok(Opened::Need { .. }) => {
                    starved = true;
                    break;
                }
                Ok(Opened::Consumed { total }) => {
                    at += total;
                    self.flush();
                }
                Ok(Opened::Plain { total, skip, len }) => {
                    self.opened.extend_from_slice(raw.get(skip..skip + len).unwrap_or_default());
                    at += total;
                }
                Ok(Opened::Hello) => {
                    let hello = self.tls.hello();
                    let sni = hello.and_then(|hello| hello.sni);
                    let chosen = self.port.choose_by(sni, &mut hello.into_iter().flat_map(|hello| hello.alpn));
                    match chosen {
                        Some(chosen) => self.tls.choose(&chosen),
                        None => self.fail(Violation::new(Rule::TlsServerName, 0)),
                    }
                }
                Ok(Opened::Closed { total }) => {
                    at += total;
                    self.over = true;
                }
                Err(violation) => self.fail(violation),
            }
        }
        self.raw.drain(..at);
        // What stays then is a cut record: it will never be more.
        if self.ended && starved {
            match self.tls.end() {
                Err(violation) if self.tls.is_handshaking() => self.fail(violation),
                // To the machine it is an end like any other: what is incomplete then, stays so.
                _ => self.over = true,
            }
        }
    }

    /// An idle connection holds no buffer.
    fn rest(&mut self) {
        for bytes in [&mut self.raw, &mut self.opened, &mut self.to_seal, &mut self.sealed] {
            if bytes.is_empty() {
                *bytes = Vec::new();
            }
        }
    }

    fn fail(&mut self, violation: Violation) {
        self.failed.get_or_insert(violation);
        self.tls.fail(violation);
    }
}

/// The records of a connection that are opened and sealed elsewhere.
pub(super) struct Records {
    /// `None`: it is there.
    cipher: Option<Box<Cipher>>,
    /// The plaintext; only while there is some.
    pub(super) plain: Option<Own>,
    /// Something is new to the cipher.
    news: bool,
    /// The handshake must be over by then; later: the peer must have left.
    deadline: Option<Instant>,
    told: bool,
    established: bool,
}

/// What a connection behind records has come to.
pub(super) enum State {
    /// The cipher is away.
    Away,
    Handshake,
    /// The peer has said goodbye in the middle of it.
    Left,
    /// The handshake is done just now.
    Established(Box<OwnedSession>),
    Open,
    /// A rule was broken; told for the first time.
    Failed(Violation),
    /// The alert is out, or will be; the peer is to leave.
    Leaving,
}

impl Records {
    pub(super) fn new(tls: Tls, config: Arc<Config>, port: Arc<Port>, proxied: bool, now: Instant) -> Records {
        let wait = std::time::Duration::from_millis(config.limits().get(Limit::HandshakeMs));
        Records {
            cipher: Some(Box::new(Cipher::new(tls, config, port, proxied))),
            plain: None,
            news: false,
            deadline: Some(now.after(wait)),
            told: false,
            established: false,
        }
    }

    /// Takes over what the cipher has made, as far as there is room, and says how things are.
    pub(super) fn come<T: AsRef<[u8]> + AsMut<[u8]>>(
        &mut self,
        now: Instant,
        plain: &mut Own,
        outbox: &mut Outbox<T>,
    ) -> State {
        let Some(cipher) = &mut self.cipher else { return State::Away };
        if !self.established && !self.told && self.deadline.is_some_and(|deadline| deadline <= now) {
            cipher.fail(Violation::over(Rule::HandshakeTimeout, 0, cipher.config.limits()));
            cipher.flush();
        }
        let n = outbox.fill(&cipher.sealed);
        cipher.sealed.drain(..n);
        if let Some(violation) = cipher.failed {
            if cipher.sealed.is_empty() {
                outbox.end();
            }
            if self.told {
                return State::Leaving;
            }
            self.told = true;
            self.deadline = Some(now.after(std::time::Duration::from_millis(LINGER_MS)));
            return State::Failed(violation);
        }
        let n = plain.inbox.fill(&cipher.opened);
        cipher.opened.drain(..n);
        self.news |= n > 0 && !cipher.raw.is_empty(); // there was no room for all of it
        if cipher.over && cipher.opened.is_empty() {
            plain.inbox.end();
        }
        if cipher.closed && cipher.sealed.is_empty() {
            outbox.end();
        }
        if self.established {
            return State::Open;
        }
        match OwnedSession::of(&cipher.tls).filter(|_| !cipher.tls.is_handshaking()) {
            Some(session) => {
                (self.established, self.deadline) = (true, None);
                State::Established(Box::new(session))
            }
            None if cipher.over => State::Left,
            None => State::Handshake,
        }
    }

    /// Hands over what there is for the cipher. Some: it has work to do, and is to be sent on its way.
    pub(super) fn go<S: AsRef<[u8]> + AsMut<[u8]>>(
        &mut self,
        plain: &mut Own,
        inbox: &mut Inbox<S>,
    ) -> Option<Box<Cipher>> {
        let cipher = self.cipher.as_mut()?;
        let ready = plain.outbox.ready();
        let n = ready.len().min(ROUND.saturating_sub(cipher.to_seal.len()));
        cipher.to_seal.extend_from_slice(ready.get(..n).unwrap_or_default());
        plain.outbox.wrote(n);
        self.news |= n > 0;
        if plain.outbox.finished() && !cipher.close {
            (cipher.close, self.news) = (true, true);
        }
        let room = (ROUND + Tls::RECORD).saturating_sub(cipher.raw.len()).min(inbox.len());
        if room > 0 && cipher.opened.is_empty() {
            let begin = cipher.raw.len();
            cipher.raw.resize(begin + room, 0);
            let n = inbox.read(cipher.raw.get_mut(begin..).unwrap_or_default());
            cipher.raw.truncate(begin + n);
            self.news |= n > 0;
        }
        if inbox.ended() && inbox.is_empty() && !cipher.ended {
            (cipher.ended, self.news) = (true, true);
        }
        // What is sealed and not yet taken bounds what is sealed ahead.
        if !self.news || !cipher.sealed.is_empty() {
            cipher.rest();
            return None;
        }
        self.news = false;
        self.cipher.take()
    }

    /// When a turn is to be taken, if one could change something: none can while the cipher is away.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.cipher.as_ref().and(self.deadline)
    }

    /// The ends that a PROXY header named; while the cipher is here.
    pub(super) fn source(&self) -> Option<Endpoints> {
        self.cipher.as_ref()?.source
    }

    pub(super) fn back(&mut self, cipher: Box<Cipher>) {
        self.cipher = Some(cipher);
    }

    /// It could not be sent: it stays, and will be.
    pub(super) fn stays(&mut self, cipher: Box<Cipher>) {
        self.news = true;
        self.cipher = Some(cipher);
    }

    /// Sealed bytes wait for room in the driver's outbox.
    pub(super) fn waits_for_room(&self) -> bool {
        self.cipher.as_ref().is_some_and(|cipher| !cipher.sealed.is_empty())
    }
}
