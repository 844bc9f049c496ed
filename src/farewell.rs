//! In: a deadline that passed, a peer that ended, a broken rule. Out: what is still to be said, and a connection that closes in order.
//!
//! ```text
//! Open --> Closing: the last words --> Lingering: half-closed, reads and drops --> Closed
//! ```

use crate::base::{Limit, Rule, Violation};
use crate::connection::{End, Engine, Life};
use crate::event::Raw;
use crate::parse::h1::send;
use crate::read::{Waiting, Why};
use crate::turn::{Pause, Step, Turn};

impl Turn<'_> {
    pub(crate) fn timed_out(&mut self, why: Why) -> Step {
        // In HTTP/2 whoever has said the preface is told.
        let spoken = !matches!(self.core.engine, Engine::H1(_)) && self.core.offset > 0;
        let silent = self.core.is_between() && self.inbox.unconsumed() == 0 && !spoken;
        #[cfg(feature = "alloc")]
        if self.timed_out_h2(why) {
            return Step::Again;
        }
        match why.rule() {
            // Nobody has said anything: there is nothing to answer (TIM-01).
            Some(Rule::IdleTimeout | Rule::HeadTimeout) if silent => self.core.close(End::Idle),
            Some(Rule::HeadTimeout) if self.core.overloaded => {
                let at = self.core.offset + self.inbox.plain().len() as u64;
                self.core.fail(Violation::new(Rule::Overloaded, at));
            }
            Some(rule) => {
                let at = self.core.offset + self.inbox.plain().len() as u64;
                let violation = Violation::over(rule, at, self.config.limits());
                #[cfg(feature = "tls")]
                if let Some(tls) = &mut self.core.tls
                    && tls.is_handshaking()
                {
                    tls.fail(violation);
                }
                self.core.fail(violation);
            }
            None => self.core.life = Life::Closed,
        }
        Step::Again
    }

    /// The peer sends no more. `truncated`: it did not say so under TLS.
    pub(crate) fn ended(&mut self, truncated: Option<Violation>) -> Step {
        let quiet = if truncated.is_some() { End::Truncated } else { End::Clean };
        if self.core.is_between() && self.inbox.plain().is_empty() {
            if self.handshaking()
                && let Some(violation) = truncated
            {
                self.core.fail(violation);
            } else {
                self.core.close(quiet);
            }
            return Step::Again;
        }
        let at = self.core.offset + self.inbox.plain().len() as u64;
        let violation = truncated.unwrap_or(Violation::new(Rule::MessageIncomplete, at));
        match self.core.engine {
            Engine::H1(_) => self.ended_h1(quiet, violation),
            #[cfg(feature = "alloc")]
            Engine::H2(_) => self.ended_h2(quiet),
        }
    }

    /// The connection is over: the exchange first, then the connection, then silence.
    pub(crate) fn fault(&mut self, violation: Violation) -> Step {
        #[cfg(feature = "alloc")]
        if matches!(self.core.engine, Engine::H2(_)) {
            return self.fault_h2(violation);
        }
        let mut answerable = violation.rule != Rule::ReaderTooSlow && violation.rule != Rule::IdleTimeout;
        if let Some(x) = self.core.current() {
            let (id, tag) = (x.shared.id, x.shared.tag);
            let complete = x.is_answered() || x.shared.ended;
            answerable &= x.sending == crate::parse::h1::state::Sending::Waiting;
            if !complete && !x.shared.aborted {
                x.shared.aborted = true;
                return Step::Event(Raw::Aborted { id, tag, why: Some(violation) });
            }
        }
        #[cfg(feature = "tls")]
        if self.core.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) || violation.alert() != 0 {
            answerable = false; // TLS says it with an alert
        }
        if violation.rule == Rule::TlsPeerAlert || violation.rule == Rule::TlsTruncated {
            answerable = false;
        }
        if answerable {
            let field = match violation.rule {
                Rule::Overloaded => Some(("retry-after", crate::accept_road::RETRY_AFTER_SECONDS)),
                _ if violation.status() == 415 => Some(("accept-encoding", crate::decode::coding::ACCEPT)),
                _ => None,
            };
            send::fault_reply(&mut self.outbox, violation.status(), field);
        }
        self.core.close(End::Ours);
        self.core.delivery.over();
        if violation.rule == Rule::ReaderTooSlow {
            self.outbox.clear();
            self.core.life = Life::Closed;
        }
        Step::Event(Raw::Fault(violation))
    }

    /// The last words: what is open is sealed, close_notify or an alert behind it.
    pub(crate) fn say_goodbye(&mut self) -> Step {
        #[cfg(feature = "tls")]
        {
            if let Some(tls) = &mut self.core.tls {
                tls.close();
            }
            if !self.flush_tls() {
                if self.core.pace.output_due(self.config.limits()) {
                    self.outbox.clear();
                    self.core.life = Life::Closed;
                    return Step::Again;
                }
                return Step::Pause(Pause::Room);
            }
        }
        self.outbox.fin();
        self.core.skipped = 0;
        self.core.life = Life::Lingering;
        self.core.pace.wait(Waiting::Linger);
        Step::Again
    }

    /// Half-closed: reads and drops until the peer ends, too (RFC 9112 §9.6; DRV-07).
    pub(crate) fn linger(&mut self) -> Step {
        let limits = self.config.limits();
        self.core.skipped += u64::from(self.inbox.unconsumed());
        self.drop_input();
        let unsent = self.outbox.unsent() > 0;
        if unsent && self.core.pace.output_due(limits) {
            self.outbox.clear();
            self.core.life = Life::Closed;
            return Step::Again;
        }
        let over = self.inbox.at.eof || self.core.peer_ended;
        if over
            || self.core.skipped > limits.get(Limit::LingerBytes)
            || (!unsent && self.core.pace.input_due(limits).is_some())
        {
            if unsent {
                return Step::Pause(Pause::Room);
            }
            self.core.life = Life::Closed;
            return Step::Again;
        }
        Step::Pause(Pause::Input { want: 1 })
    }

    pub(crate) fn drop_input(&mut self) {
        let n = self.inbox.plain().len();
        self.inbox.eat(n);
        let n = self.inbox.raw().len();
        self.inbox.drop_raw(n);
    }
}
