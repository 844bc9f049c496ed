//! The first steps of a connection: whom a proxy speaks for, which version of HTTP is spoken, and whether there is anybody to serve it.

use crate::accept::proxy::{Found, Item, Receiver};
#[cfg(feature = "alloc")]
use crate::accept::sniff::{self, Spoken};
use crate::base::{Limits, Rule, Violation};
use crate::connection::{End, Life};
use crate::event::Raw;
#[cfg(feature = "alloc")]
use crate::parse::h2::{kind, put, put_goaway};
use crate::read::Waiting;
use crate::turn::{Pause, Step, Turn};

impl Turn<'_> {
    /// The PROXY header that the configuration requires, in front of TLS and HTTP. `None`: there is none to wait for. All of it is received
    /// bytes, not yet plaintext; it is lent with its event and is no part of the plaintext that offsets are counted in.
    pub(crate) fn await_source(&mut self) -> Option<Step> {
        let limits = self.config.limits();
        let received = self.inbox.received();
        let item = self.core.proxy.as_mut()?.step(received, limits);
        Some(match item {
            Err(violation) => self.refuse_source(violation),
            Ok(Item::Header(found)) => {
                (self.core.proxy, self.core.source) = (None, found.endpoints);
                self.inbox.uncover(found.len as usize);
                self.inbox.lend(found.len as usize);
                Step::Event(Raw::Proxied)
            }
            Ok(Item::Need { want }) => self.starved_source(want),
        })
    }

    /// The header that lies in front of the plaintext.
    pub(crate) fn found(plain: &[u8], limits: &Limits) -> Found {
        match Receiver::new().step(plain, limits) {
            Ok(Item::Header(found)) => found,
            _ => Found::default(),
        }
    }

    /// The header is not complete, and there is no more input.
    fn starved_source(&mut self, want: usize) -> Step {
        let (limits, here) = (self.config.limits(), self.inbox.received().len());
        if self.inbox.at.eof || (self.core.draining && here == 0) {
            if here > 0 {
                return self.refuse_source(Violation::new(Rule::ProxyTruncated, here as u64));
            }
            let end = if self.inbox.at.eof { End::Clean } else { End::Ours };
            return self.end_in_silence(end); // as those do that only look whether the port is open
        }
        self.core.pace.since_accept(Waiting::Source);
        if self.core.pace.input_due(limits).is_some() {
            if here == 0 {
                return self.end_in_silence(End::Idle);
            }
            return self.refuse_source(Violation::over(Rule::ProxyTimeout, here as u64, limits));
        }
        Step::Pause(Pause::Input { want })
    }

    /// Nobody knows who is at the other end: not a word to it.
    fn refuse_source(&mut self, violation: Violation) -> Step {
        let _ = self.end_in_silence(End::Ours);
        Step::Event(Raw::Fault(violation))
    }

    fn end_in_silence(&mut self, end: End) -> Step {
        self.core.close(end);
        self.core.life = Life::Closed;
        Step::Again
    }

    /// Which version of HTTP is spoken: as TLS agreed (RFC 7301), else as the first bytes say (RFC 9113 §3.3). `None`: known now.
    #[cfg(feature = "alloc")]
    pub(crate) fn settle(&mut self) -> Option<Step> {
        #[cfg(feature = "tls")]
        let of_tls = self.core.tls.as_ref().map(|tls| tls.alpn());
        #[cfg(not(feature = "tls"))]
        let of_tls = None;
        let agreed = self.core.given.as_ref().map(|given| given.lend().alpn).or(of_tls);
        if let Some(alpn) = agreed {
            self.core.settled = true;
            return if alpn == Some(b"h2") { self.begin_h2() } else { None };
        }
        let preface = self.config.has_http2().then_some(&crate::parse::h2::PREFACE[..]);
        let spoken = sniff::version(self.inbox.plain(), preface);
        match spoken {
            Spoken::Silence => return None, // as long as nobody has said anything, HTTP/1.1 knows what to do
            Spoken::Unclear { want } => return Some(self.more(want)),
            Spoken::Http1 | Spoken::Http2 => self.core.settled = true,
        }
        if matches!(spoken, Spoken::Http2) { self.begin_h2() } else { None }
    }

    #[cfg(feature = "alloc")]
    fn begin_h2(&mut self) -> Option<Step> {
        if self.core.begin_h2(self.config.limits()).is_err() {
            // It cannot even begin: our preface, which may be empty (RFC 9113 §3.4), and why.
            let violation = Violation::new(Rule::NoMemory, self.core.offset);
            put(&mut self.outbox, kind::SETTINGS, 0, 0, &[]);
            put_goaway(&mut self.outbox, 0, violation.h2_code(), violation.text());
            self.core.close(End::Ours);
            return Some(Step::Event(Raw::Fault(violation)));
        }
        if self.core.overloaded {
            self.core.fail(Violation::new(Rule::Overloaded, self.core.offset));
        }
        None
    }
}

/// What a client that is not served is told to wait (RFC 9110 §10.2.3): long enough that it does not come back into the same crowd.
pub(crate) const RETRY_AFTER_SECONDS: &str = "5";
