//! In: an event without its borrows. Out: the event, lent from wherever its bytes lie. The only place where spans become borrows.

use crate::base::Span;
use crate::connection::{Core, Engine};
use crate::event::{Body, Event, Fields, Head, Lent, Raw, Request, Trailers, Tunnel};
use crate::parse::Id;
use crate::parse::h1::send::RESERVE;
use crate::reply::Reply;
use crate::turn::Turn;

impl Turn<'_> {
    /// The receiving side is shared, exchanges and outbox exclusive.
    pub(crate) fn lend(&mut self, raw: Raw) -> Event<'_> {
        let limits = self.config.limits();
        #[cfg(feature = "tls")]
        let Core { engine, delivery, exchanges, coders, tls, choice, given, source, .. } = &mut *self.core;
        #[cfg(all(feature = "alloc", not(feature = "tls")))]
        let Core { engine, delivery, exchanges, coders, given, source, .. } = &mut *self.core;
        #[cfg(not(feature = "alloc"))]
        let Core { engine, delivery, exchanges, source, .. } = &mut *self.core;
        let plain = self.inbox.plain();
        #[cfg(feature = "alloc")]
        let (delivery, kept) = match &*engine {
            Engine::H2(h2) => match h2.lent() {
                Some(intake) => (&intake.delivery, intake.waiting()),
                None => (&*delivery, &[][..]),
            },
            _ => (&*delivery, &[][..]),
        };
        let lines = match &*engine {
            Engine::H1(_) => plain,
            #[cfg(feature = "alloc")]
            Engine::H2(h2) => &h2.receiver.section.lines,
        };
        let bytes = |lent: Lent| match lent {
            Lent::Nothing => &[][..],
            Lent::Inbox(n) => plain.get(..n as usize).unwrap_or_default(),
            #[cfg(feature = "alloc")]
            Lent::Kept(n) => kept.get(..n as usize).unwrap_or_default(),
            #[cfg(feature = "alloc")]
            Lent::Window(span) => delivery.decoder.as_ref().map_or(&[][..], |d| d.window(span)),
            #[cfg(feature = "alloc")]
            Lent::Gathered => &delivery.gather,
        };
        #[cfg(not(feature = "alloc"))]
        let _ = delivery;
        let out = self.outbox.reborrow(RESERVE);
        let reply = |id: u64, exchanges| Reply {
            id: Id(id),
            exchanges,
            out,
            limits,
            #[cfg(feature = "alloc")]
            coders: coders.as_mut(),
        };
        match raw {
            Raw::Proxied => Event::Proxied(Turn::found(plain, limits).of(plain)),
            #[cfg(feature = "tls")]
            Raw::Hello => {
                let hello = tls.as_ref().and_then(|tls| tls.hello());
                let sni = hello.as_ref().and_then(|h| h.sni);
                Event::Hello(crate::event::Hello { sni, hello, choice })
            }
            Raw::Request { id, head, has_body } => {
                // What lies in front of the fields is looked at once: a request line, or the pseudo-fields.
                let front = core::str::from_utf8(lines.get(..head.fields.start as usize).unwrap_or_default());
                let front = front.unwrap_or_default();
                let text = |span: Span| {
                    let inside = front.get(span.start as usize..span.end as usize);
                    inside.unwrap_or_else(|| core::str::from_utf8(span.of(lines)).unwrap_or_default())
                };
                let [method, target] = [head.method, head.target].map(text);
                let head = Head {
                    method,
                    target,
                    authority: text(head.authority),
                    version: head.version,
                    protocol: if head.protocol.is_empty() { None } else { Some(text(head.protocol)) },
                    fields: Fields::new(head.fields.of(lines)),
                };
                #[cfg(feature = "tls")]
                let tls = tls.as_ref().and_then(crate::connection::session);
                #[cfg(not(feature = "tls"))]
                let tls = None;
                let source = source.as_ref();
                #[cfg(feature = "alloc")]
                let tls = given.as_ref().map(|given| given.lend()).or(tls);
                Event::Request(Request { head, has_body, tls, source, reply: reply(id, exchanges) })
            }
            Raw::Body { id, bytes: lent, whole, last } => {
                let tag = exchanges.shared(id).map_or(0, |x| x.tag);
                Event::Body(Body { tag, bytes: bytes(lent), whole, last, reply: reply(id, exchanges) })
            }
            Raw::Trailers { id, fields } => {
                let tag = exchanges.shared(id).map_or(0, |x| x.tag);
                Event::Trailers(Trailers { tag, fields: Fields::new(fields.of(lines)), reply: reply(id, exchanges) })
            }
            Raw::Writable { id } => Event::Writable(reply(id, exchanges)),
            Raw::Tunnel { id, bytes: lent, last } => {
                let tag = exchanges.shared(id).map_or(0, |x| x.tag);
                Event::Tunnel(Tunnel { tag, bytes: bytes(lent), last, reply: reply(id, exchanges) })
            }
            Raw::Aborted { id, tag, why } => Event::Aborted { id: Id(id), tag, why },
            Raw::Fault(violation) => Event::Fault(violation),
        }
    }
}
