//! What goes back: the handle of one exchange. Every event of an exchange carries one, and `Turn::reply` finds it later.

use crate::base::{Limits, Misuse};
#[cfg(feature = "alloc")]
use crate::coded::{Carrier, Coders, is_codable};
use crate::decode::json;
use crate::parse::h1::state::One;
use crate::parse::{Content, Exchange, Expect, Id};
use crate::read::OutboxMut;
#[cfg(feature = "alloc")]
use crate::reply_coded::Plan;

/// Where the exchanges of a connection live, by version.
#[derive(Debug)]
pub(crate) enum Exchanges {
    H1(One),
    #[cfg(feature = "alloc")]
    H2(crate::base::memory::Held<crate::parse::h2::Streams>),
    #[cfg(all(test, feature = "alloc"))]
    H3Model(crate::models::Streams),
}

impl Exchanges {
    /// What every version knows of an exchange that is still open.
    pub(crate) fn shared(&mut self, id: u64) -> Option<&mut Exchange> {
        match self {
            Exchanges::H1(one) => one.get(id).map(|x| &mut x.shared),
            #[cfg(feature = "alloc")]
            Exchanges::H2(streams) => streams.get(id).map(|at| &mut at.stream.shared),
            #[cfg(all(test, feature = "alloc"))]
            Exchanges::H3Model(streams) => streams.get(id).map(|x| &mut x.shared),
        }
    }
}

/// Calls the same method of the exchange, whatever its version.
macro_rules! dispatch {
    ($self:ident, |$x:ident, $out:ident| $call:expr) => {{
        let $out = &mut $self.out;
        match &mut *$self.exchanges {
            Exchanges::H1(one) => {
                let $x = one.get($self.id.0).ok_or(Misuse::Gone)?;
                $call
            }
            #[cfg(feature = "alloc")]
            Exchanges::H2(streams) => {
                #[allow(unused_mut)]
                let mut $x = streams.get($self.id.0).ok_or(Misuse::Gone)?;
                $call
            }
            #[cfg(all(test, feature = "alloc"))]
            Exchanges::H3Model(streams) => {
                let $x = streams.get($self.id.0).ok_or(Misuse::Gone)?;
                $call
            }
        }
    }};
}
#[cfg(feature = "alloc")]
pub(crate) use dispatch;

/// Answers one exchange.
///
/// ```
/// # use vestibule::*;
/// # fn handle(event: Event<'_>) -> Result<(), Misuse> {
/// match event {
///     Event::Request(mut request) => match request.head.path() {
///         "/hello" => request.reply.text(200, "hello")?,
///         "/echo" => { request.reply.expect(Expect::Whole { max: 1000 }); }
///         _ => request.reply.text(404, "not here")?,
///     },
///     Event::Body(mut body) => {
///         body.reply.respond(200, &[], Content::Whole(body.bytes))?; // echoes what is lent: no copy but the outbox's
///     }
///     _ => {}
/// }
/// # Ok(()) }
/// ```
pub struct Reply<'a> {
    pub(crate) id: Id,
    pub(crate) exchanges: &'a mut Exchanges,
    pub(crate) out: OutboxMut<'a>,
    pub(crate) limits: &'a Limits,
    /// `None`: responses are not coded.
    #[cfg(feature = "alloc")]
    pub(crate) coders: Option<&'a mut Coders>,
}

impl Reply<'_> {
    /// Names the exchange, for [`Turn::reply`](crate::Turn::reply).
    pub fn id(&self) -> Id {
        self.id
    }

    /// The handler's own number of the exchange; 0 until it is set.
    pub fn tag(&mut self) -> u64 {
        self.exchanges.shared(self.id.0).map_or(0, |x| x.tag)
    }

    /// Sets the number that later events of this exchange carry.
    pub fn set_tag(&mut self, tag: u64) -> &mut Self {
        if let Some(x) = self.exchanges.shared(self.id.0) {
            x.tag = tag;
        }
        self
    }

    /// How the body is to come. The last word before the next event counts; once parts have come, or a whole body is being
    /// gathered, see [`Expect`].
    pub fn expect(&mut self, how: Expect) -> &mut Self {
        if let Some(x) = self.exchanges.shared(self.id.0) {
            let whole = x.expect.whole().or(how.whole()).is_some() || x.expect == Expect::Discard;
            if !(x.begun && whole) || how == Expect::Discard {
                x.expect = how;
            }
        }
        self
    }

    /// Gives back `n` bytes that were lent under [`Expect::Manual`].
    pub fn release(&mut self, n: u32) {
        if let Some(x) = self.exchanges.shared(self.id.0) {
            x.held = x.held.saturating_sub(n);
        }
    }

    /// The rest of the body is of no interest.
    pub fn discard(&mut self) {
        self.expect(Expect::Discard);
    }

    /// The connection is to end behind this exchange: its final response says so (RFC 9112 §9.6). To be called before that.
    pub fn close(&mut self) -> &mut Self {
        if let Some(x) = self.exchanges.shared(self.id.0) {
            x.close = true;
        }
        self
    }

    /// Gives the exchange up. In HTTP/1.1 the connection ends, without a word if none was said (RFC 9112 §9.6).
    pub fn abort(self) {
        if let Some(x) = self.exchanges.shared(self.id.0) {
            x.aborted = true;
        }
    }

    /// An interim response: 100, 103 and the like (RFC 9110 §15.2).
    ///
    /// # Errors
    /// All or nothing; see [`Misuse`].
    pub fn inform(&mut self, status: u16, fields: &[(&str, &str)]) -> Result<(), Misuse> {
        let limits = self.limits;
        dispatch!(self, |x, out| x.inform(out, limits, status, fields))
    }

    /// The final response: its head, all or nothing, and as much of `Content::Whole` as there is room for. Says how much; the
    /// rest is for [`Reply::write`] when `Writable` comes. A response to HEAD, and 204 and 304, take content and send none.
    ///
    /// Content-Length, Transfer-Encoding and Connection are the machine's own; Date is the caller's. Where the configuration
    /// says so the content is coded ([`Config::with_response_codings`](crate::Config)); what is counted here, and in `write`, is the content
    /// that was given.
    ///
    /// # Errors
    /// Nothing was written; see [`Misuse`].
    pub fn respond(&mut self, status: u16, fields: &[(&str, &str)], content: Content<'_>) -> Result<usize, Misuse> {
        #[cfg(feature = "alloc")]
        if self.coders.is_some() {
            return self.respond_by_plan(status, fields, content);
        }
        self.respond_as_it_is(status, fields, content)
    }

    pub(crate) fn respond_as_it_is(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        content: Content<'_>,
    ) -> Result<usize, Misuse> {
        let limits = self.limits;
        dispatch!(self, |x, out| x.respond(out, limits, status, fields, content))
    }

    /// More content. Takes what there is room for and says how much; if that is not all, `Writable` follows.
    ///
    /// # Errors
    /// Nothing was taken; see [`Misuse`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Misuse> {
        #[cfg(feature = "alloc")]
        if let Some(coders) = self.coders.as_deref_mut()
            && coders.has(self.id.0)
        {
            let (id, limits) = (self.id.0, self.limits);
            return dispatch!(self, |x, out| x.with(|x| coders.write(id, x, out, limits, bytes))).unwrap_or(Ok(0));
        }
        dispatch!(self, |x, out| x.write(out, bytes))
    }

    /// The content is complete. If it is shorter than was declared, the peer is told by the end of the connection.
    ///
    /// # Errors
    /// See [`Misuse`].
    pub fn finish(&mut self) -> Result<(), Misuse> {
        #[cfg(feature = "alloc")]
        if let Some(said) = self.finish_coded(None) {
            return said;
        }
        dispatch!(self, |x, out| x.finish(out))
    }

    /// Ends streamed content with a trailer section (RFC 9110 §6.5).
    ///
    /// # Errors
    /// Nothing was written; see [`Misuse`]. Behind content that is coded, trailers have to fit `reply_room_bytes`:
    /// [`Misuse::HeadTooLarge`].
    pub fn trailers(&mut self, fields: &[(&str, &str)]) -> Result<(), Misuse> {
        #[cfg(feature = "alloc")]
        if let Some(said) = self.finish_coded(Some(fields)) {
            return said;
        }
        let limits = self.limits;
        dispatch!(self, |x, out| x.trailers(out, limits, fields))
    }

    /// Accepts an upgrade with 101, naming the protocol, or a CONNECT with 200 (the protocol is not sent then). From here on
    /// `write` sends bytes as they are, and `Tunnel` events bring them.
    ///
    /// The protocol has to be one of those that the request offers, compared without case ([`Head::protocol`](crate::Head)); the first 64
    /// bytes of a longer list count. A CONNECT offers one or none, and accepting it accepts that, whatever is given here.
    ///
    /// # Errors
    /// Nothing was written; see [`Misuse`]. [`Misuse::NoUpgrade`]: the request offers no such protocol, or none.
    pub fn upgrade(&mut self, protocol: &str, fields: &[(&str, &str)]) -> Result<(), Misuse> {
        let limits = self.limits;
        dispatch!(self, |x, out| x.upgrade(out, limits, protocol, fields))
    }

    /// A short text, complete.
    ///
    /// # Errors
    /// Nothing was written; see [`Misuse`]. [`Misuse::NoRoom`] if head and text do not fit at once.
    pub fn text(&mut self, status: u16, text: &str) -> Result<(), Misuse> {
        self.whole(status, "text/plain; charset=utf-8", text.as_bytes())
    }

    /// A short body of any type, complete.
    ///
    /// # Errors
    /// As [`Reply::text`].
    pub fn whole(&mut self, status: u16, content_type: &str, bytes: &[u8]) -> Result<(), Misuse> {
        let fields = [("content-type", content_type)];
        #[cfg(feature = "alloc")]
        let plan = self.plan(status, &fields, Some(bytes.len() as u64));
        #[cfg(feature = "alloc")]
        if let (Plan::Coded(coding), Some(coders)) = (plan, self.coders.as_deref_mut())
            && coders.prepare(self.id.0, coding, self.limits, bytes)
        {
            return self.respond_prepared(status, &fields, coding);
        }
        if bytes.len() + content_type.len() + SHORT_HEAD > self.out.room() || bytes.len() > self.takes(true)? {
            return Err(Misuse::NoRoom);
        }
        #[cfg(feature = "alloc")]
        if plan != Plan::AsIs {
            return self.respond_varying(status, &fields, Content::Whole(bytes)).map(|_| ());
        }
        self.respond_as_it_is(status, &fields, Content::Whole(bytes)).map(|_| ())
    }

    /// A value as JSON, complete, written straight into the outbox as [`to_slice`](crate::decode::json::to_slice) does it.
    ///
    /// # Errors
    /// Nothing was written; see [`Misuse`]. [`Misuse::NoRoom`] if head and value do not fit at once (under TLS, into one
    /// record), or if the value cannot be written as JSON.
    pub fn json<T: serde::Serialize>(&mut self, status: u16, value: &T) -> Result<(), Misuse> {
        self.fill(status, "application/json", |space| json::to_slice(value, space).ok())
    }

    /// A typed Protobuf message, complete, encoded straight into the outbox by prost. Its type is `application/protobuf`, the one that
    /// IANA has; `application/x-protobuf` is a deprecated name of it.
    ///
    /// # Errors
    /// Nothing was written; see [`Misuse`]. [`Misuse::NoRoom`] if head and message do not fit at once (under TLS, into one
    /// record): then encode it, and use [`Reply::respond`] and [`Reply::write`].
    #[cfg(feature = "prost")]
    pub fn protobuf<M: prost::Message>(&mut self, status: u16, message: &M) -> Result<(), Misuse> {
        self.fill(status, "application/protobuf", |space| {
            let mut space = space.get_mut(..message.encoded_len())?;
            let len = space.len();
            message.encode(&mut space).ok().map(|()| len)
        })
    }

    /// A complete body that `write` writes into the outbox, behind the place where its head will stand; it says how long it is, or
    /// `None` if it does not fit.
    fn fill(
        &mut self,
        status: u16,
        content_type: &str,
        write: impl Fn(&mut [u8]) -> Option<usize>,
    ) -> Result<(), Misuse> {
        // Where windows are nearly closed, a short value is parked.
        if self.takes(false)? < PARK {
            let mut short = [0; PARK];
            if let Some(n) = write(&mut short) {
                return self.whole(status, content_type, short.get(..n).unwrap_or_default());
            }
        }
        let fields = [("content-type", content_type)];
        #[cfg(feature = "alloc")]
        let plan = self.plan(status, &fields, None);
        #[cfg(feature = "alloc")]
        let mut coded = None;
        #[rustfmt::skip]
        let Reply { id, exchanges, out, limits, #[cfg(feature = "alloc")] coders } = self;
        let mut outcome = Ok(true);
        let fill = |space: &mut [u8]| {
            let n = write(space)?;
            #[cfg(feature = "alloc")]
            if let (Plan::Coded(coding), Some(coders)) = (plan, coders.as_deref_mut())
                && is_codable(status, &fields, Some(n as u64), limits)
                && coders.prepare(id.0, coding, limits, space.get(..n)?)
            {
                coded = Some(coding);
                return None; // nothing of it stays there
            }
            Some(n)
        };
        let fits = out.put_behind(SHORT_HEAD, fill, |out, len| {
            let mut reply = Reply {
                id: *id,
                exchanges,
                out,
                limits,
                #[cfg(feature = "alloc")]
                coders: None,
            };
            let content = Content::Sized(len as u64);
            let before = reply.set_whole(true);
            outcome = reply
                .takes(false)
                .and_then(|most| if len > most { Err(Misuse::NoRoom) } else { Ok(()) })
                .and_then(|()| {
                    #[cfg(feature = "alloc")]
                    if plan != Plan::AsIs && is_codable(status, &fields, Some(len as u64), limits) {
                        return reply.respond_varying(status, &fields, content);
                    }
                    reply.respond_as_it_is(status, &fields, content)
                })
                .and_then(|_| reply.placed(len));
            reply.set_whole(before);
            match outcome {
                Ok(true) => Some(len),
                Ok(false) => Some(0),
                Err(_) => None,
            }
        });
        #[cfg(feature = "alloc")]
        if let Some(coding) = coded {
            return self.respond_prepared(status, &fields, coding);
        }
        outcome?;
        if fits { Ok(()) } else { Err(Misuse::NoRoom) }
    }

    /// The content of the response that comes next is all there already, though it is not handed over with its head.
    /// Says what was so before.
    fn set_whole(&mut self, whole: bool) -> bool {
        self.exchanges.shared(self.id.0).is_some_and(|x| core::mem::replace(&mut x.whole, whole))
    }

    /// How long the content of a short answer may be now, as far as windows go.
    fn takes(&mut self, parked: bool) -> Result<usize, Misuse> {
        dispatch!(self, |x, _out| Ok(x.takes(parked)))
    }

    /// Content of that length lies behind the head without having gone through `write`: completes the response. Says whether the
    /// content is to be sent at all.
    fn placed(&mut self, len: usize) -> Result<bool, Misuse> {
        dispatch!(self, |x, out| x.placed(out, len))
    }
}

/// What a stream of HTTP/2 may hold back of a short answer.
const PARK: usize = 1_024;
/// What the head of a short response can take: status line, content type, framing, persistence.
const SHORT_HEAD: usize = 192;

impl core::fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reply").field("id", &self.id).finish_non_exhaustive()
    }
}
