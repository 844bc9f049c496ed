//! In: what a coder has for its exchange. Out: the calls that every version of HTTP answers to.

use crate::base::{Limits, Misuse};
use crate::parse::h1::state::{H1Exchange, Sending};
use crate::parse::{Content, Exchange};
use crate::read::OutboxMut;

/// The sending side of an exchange, in any version.
pub(crate) trait Carrier {
    fn respond(
        &mut self,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        status: u16,
        fields: &[(&str, &str)],
        content: Content<'_>,
    ) -> Result<usize, Misuse>;
    fn write(&mut self, out: &mut OutboxMut<'_>, bytes: &[u8]) -> Result<usize, Misuse>;
    fn finish(&mut self, out: &mut OutboxMut<'_>) -> Result<(), Misuse>;
    fn trailers(&mut self, out: &mut OutboxMut<'_>, limits: &Limits, fields: &[(&str, &str)]) -> Result<(), Misuse>;
    /// What all versions know of it.
    fn shared(&mut self) -> &mut Exchange;
    /// Something is to be written as soon as that is possible.
    fn starve(&mut self);
    /// The content is broken: only the end tells the peer.
    fn break_off(&mut self);
    /// Its content is not sent (HEAD).
    fn is_silent(&self) -> bool;

    /// With itself, whatever it is held by.
    fn with<R>(&mut self, call: impl FnOnce(&mut Self) -> R) -> R {
        call(self)
    }
}

/// The methods that every version has under the same names.
macro_rules! carries {
    () => {
        fn respond(
            &mut self,
            out: &mut OutboxMut<'_>,
            limits: &Limits,
            status: u16,
            fields: &[(&str, &str)],
            content: Content<'_>,
        ) -> Result<usize, Misuse> {
            Self::respond(self, out, limits, status, fields, content)
        }

        fn write(&mut self, out: &mut OutboxMut<'_>, bytes: &[u8]) -> Result<usize, Misuse> {
            Self::write(self, out, bytes)
        }

        fn finish(&mut self, out: &mut OutboxMut<'_>) -> Result<(), Misuse> {
            Self::finish(self, out)
        }

        fn trailers(
            &mut self,
            out: &mut OutboxMut<'_>,
            limits: &Limits,
            fields: &[(&str, &str)],
        ) -> Result<(), Misuse> {
            Self::trailers(self, out, limits, fields)
        }
    };
}
impl Carrier for H1Exchange {
    carries!();

    fn shared(&mut self) -> &mut Exchange {
        &mut self.shared
    }

    fn starve(&mut self) {
        self.shared.starved = true;
    }

    fn break_off(&mut self) {
        self.sending = Sending::Broken;
    }

    fn is_silent(&self) -> bool {
        matches!(self.sending, Sending::Silent)
    }
}

impl Carrier for crate::parse::h2::At<'_> {
    carries!();

    fn shared(&mut self) -> &mut Exchange {
        &mut self.stream.shared
    }

    fn starve(&mut self) {
        self.stream.shared.starved = true;
        self.rank();
    }

    fn break_off(&mut self) {
        self.stream.sending = crate::parse::h2::Sending::Broken;
        self.stream.shared.starved = false;
        self.rank();
    }

    fn is_silent(&self) -> bool {
        self.stream.sending == crate::parse::h2::Sending::Silent
    }
}

#[cfg(test)]
impl Carrier for crate::models::Stream {
    carries!();

    fn shared(&mut self) -> &mut Exchange {
        &mut self.shared
    }

    fn starve(&mut self) {
        self.shared.starved = true;
    }

    fn break_off(&mut self) {
        self.shared.aborted = true;
    }

    fn is_silent(&self) -> bool {
        false
    }
}
