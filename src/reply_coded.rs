//! In: a response, and what its client accepts. Out: the response coded, or as it is and saying so. Beside `reply.rs`; the coders live in
//! `coded/`.

use crate::base::{Limits, Misuse};
use crate::coded::{Carrier, Coders, Edited, Pumped, Scratch, is_codable};
use crate::decode::coding::Coding;
use crate::parse::Content;
use crate::read::OutboxMut;
use crate::reply::{Exchanges, Reply, dispatch};

/// What is coded of an exchange goes on. `None`: it is not coded.
pub(crate) fn pump(
    coders: &mut Coders,
    exchanges: &mut Exchanges,
    id: u64,
    out: &mut OutboxMut<'_>,
    limits: &Limits,
) -> Option<Pumped> {
    match exchanges {
        Exchanges::H1(one) => coders.pump(id, one.get(id)?, out, limits),
        Exchanges::H2(streams) => coders.pump(id, &mut streams.get(id)?, out, limits),
        #[cfg(test)]
        Exchanges::H3Model(streams) => coders.pump(id, streams.get(id)?, out, limits),
    }
}

/// What the machine does about the coding of a response.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    AsIs,
    /// It says that other clients may have got it coded.
    Varies,
    Coded(Coding),
}

/// Content that is coded on its way.
impl Reply<'_> {
    /// What is to be done about a response with that status, these fields and content of that length.
    pub(crate) fn plan(&mut self, status: u16, fields: &[(&str, &str)], length: Option<u64>) -> Plan {
        // Where one is under way, another answer is a mistake that the exchange itself tells.
        if self.coders.as_ref().is_none_or(|coders| coders.has(self.id.0)) {
            return Plan::AsIs;
        }
        let offer = self.exchanges.shared(self.id.0).map_or(0, |x| x.offer);
        match crate::coded::offered(offer) {
            Some(coding) if is_codable(status, fields, length, self.limits) => match coding {
                Coding::Identity => Plan::Varies,
                coding => Plan::Coded(coding),
            },
            _ => Plan::AsIs,
        }
    }

    #[inline(never)] // what is not coded needs no room for edited fields on the stack
    pub(crate) fn respond_by_plan(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        content: Content<'_>,
    ) -> Result<usize, Misuse> {
        let length = match content {
            Content::Whole(bytes) => Some(bytes.len() as u64),
            Content::Sized(n) => Some(n),
            Content::Streamed => None,
        };
        let coding = match self.plan(status, fields, length) {
            Plan::AsIs => return self.respond_as_it_is(status, fields, content),
            Plan::Varies => return self.respond_varying(status, fields, content),
            Plan::Coded(coding) => coding,
        };
        let mut scratch = Scratch::new();
        if let (Some(edited), Some(coders)) = (Edited::new(fields, coding, &mut scratch), self.coders.as_deref_mut()) {
            let (id, limits) = (self.id.0, self.limits);
            let said = dispatch!(self, |x, out| {
                x.with(|x| coders.respond(id, coding, x, out, limits, status, edited.get(), content))
            });
            if let Some(said) = said {
                return said;
            }
        }
        self.respond_varying(status, fields, content)
    }

    /// As it is, but saying that it might have been coded.
    pub(crate) fn respond_varying(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        content: Content<'_>,
    ) -> Result<usize, Misuse> {
        let mut scratch = Scratch::new();
        match Edited::new(fields, Coding::Identity, &mut scratch) {
            Some(edited) => self.respond_as_it_is(status, edited.get(), content),
            None => self.respond_as_it_is(status, fields, content),
        }
    }

    /// The head of content that was prepared, which follows by itself.
    pub(crate) fn respond_prepared(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        coding: Coding,
    ) -> Result<(), Misuse> {
        let mut scratch = Scratch::new();
        let (id, limits) = (self.id.0, self.limits);
        let (Some(edited), Some(coders)) = (Edited::new(fields, coding, &mut scratch), self.coders.as_deref_mut())
        else {
            return Err(Misuse::HeadTooLarge); // two fields at most come here
        };
        let fields = edited.get();
        dispatch!(self, |x, out| x.with(|x| coders.respond_prepared(id, x, out, limits, status, fields)))
    }

    pub(crate) fn finish_coded(&mut self, trailers: Option<&[(&str, &str)]>) -> Option<Result<(), Misuse>> {
        let coders = self.coders.as_deref_mut().filter(|coders| coders.has(self.id.0))?;
        let (id, limits) = (self.id.0, self.limits);
        let mut call = || -> Result<_, Misuse> {
            dispatch!(self, |x, out| Ok(x.with(|x| coders.finish(id, x, out, limits, trailers))))
        };
        call().unwrap_or_else(|misuse| Some(Err(misuse)))
    }
}
