//! In: protected records after the handshake, and what we want to say. Out: plaintext in place, sealed records, next keys.
//!
//! rustls keeps the secrets and the key schedule (its kernel connection); records, KeyUpdates, alerts and floods are ours. In TLS
//! 1.2 there is no key schedule to keep: its one pair of keys lasts as long as the connection, and a client that asks for
//! another handshake gets one warning that there is none.

use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::record::{self, Fault, Form, Header, Inner, Receive, Send, Suite};
use crate::base::{Bucket, Instant, Limit, Limits, Rule};

// RFC 8446 §4.6.3: the message type, a length of one, and what is asked.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
/// A sealed KeyUpdate.
const KEY_UPDATE_RECORD: usize = record::HEADER + 5 + record::TRAILER_MOST;
/// The longest record that is sealed at once: an alert of TLS 1.2.
pub(super) const LONGEST_RECORD: usize = record::HEADER_MOST + 2 + record::TRAILER_MOST - 1;
const _: () = assert!(LONGEST_RECORD >= KEY_UPDATE_RECORD);
// RFC 5246 §7.4: a message's type and length.
const MESSAGE_HEAD: usize = 4;
const CLIENT_HELLO: u8 = 1;
// RFC 5246 §7.2.2
const NO_RENEGOTIATION: u8 = 100;
// How many more records a key must be able to seal: after data a KeyUpdate and an alert, after a KeyUpdate an alert.
const KEEP_AFTER_DATA: u64 = 2;
const KEEP_AFTER_UPDATE: u64 = 1;

/// What one record was.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Got {
    /// This many bytes are missing.
    Need(usize),
    /// Nothing for the application.
    Nothing { total: usize },
    /// Application data.
    Plain { total: usize, skip: usize, len: usize },
    /// close_notify.
    Closed { total: usize },
}

/// The two directions of a connection whose handshake is done.
pub(super) struct Traffic {
    /// The key schedule, which TLS 1.2 has not got.
    kernel: Option<KernelConnection<ServerConnectionData>>,
    suite: Suite,
    receive: Receive,
    send: Send,
    /// The first bytes of a handshake message that goes on in the next record.
    partial: [u8; 5],
    partial_len: usize,
    /// What is still to come of a ClientHello that is not answered.
    unwanted: usize,
    /// How often it may still ask for another handshake.
    renegotiations: u8,
    /// The client is to hear that there is no renegotiation.
    owe_warning: bool,
    empty_records: u64,
    warnings: u64,
    idle_records: Bucket,
    /// The peer asked for new keys of ours, and has not got them yet.
    owe_update: bool,
    /// We want new keys in both directions.
    want_update: bool,
}

impl Traffic {
    pub(super) fn new(
        kernel: Option<KernelConnection<ServerConnectionData>>,
        suite: Suite,
        receive: Receive,
        send: Send,
        renegotiations: u8,
        limits: &Limits,
        now: Instant,
    ) -> Traffic {
        Traffic {
            kernel,
            suite,
            receive,
            send,
            partial: [0; 5],
            partial_len: 0,
            unwanted: 0,
            renegotiations,
            owe_warning: false,
            empty_records: 0,
            warnings: 0,
            idle_records: Bucket::new(limits.get(Limit::KeyUpdateBurst), limits.get(Limit::KeyUpdateRate), now),
            owe_update: false,
            want_update: false,
        }
    }

    /// Opens the record that `raw` begins with.
    pub(super) fn open(&mut self, limits: &Limits, now: Instant, raw: &mut [u8]) -> Result<Got, Fault> {
        let form = self.receive.form();
        let header = record::header(raw, true, |kind| judge_kind(form, kind), |_, len| judge_length(form, len))?;
        let total = match header {
            Header::Partial(missing) => return Ok(Got::Need(missing)),
            Header::Whole(_, len) => record::HEADER + len,
        };
        let have = raw.len();
        let Some(record) = raw.get_mut(..total) else {
            return Ok(Got::Need(total.saturating_sub(have)));
        };
        let inner = self.receive.open(record).map_err(start)?;
        let content = inner.skip.checked_add(inner.len).and_then(|end| record.get(inner.skip..end)).unwrap_or_default();
        self.judge(limits, now, inner, content, total).map_err(start)
    }

    fn judge(
        &mut self,
        limits: &Limits,
        now: Instant,
        inner: Inner,
        content: &[u8],
        total: usize,
    ) -> Result<Got, Rule> {
        match inner.kind {
            record::ALERT => return self.alert(limits, now, content, total),
            // RFC 8446 §5.1: nothing may come between the parts of a handshake message.
            record::APPLICATION_DATA if self.partial_len > 0 || self.unwanted > 0 => {
                return Err(Rule::TlsInnerPlaintext);
            }
            record::APPLICATION_DATA if inner.len > 0 => {
                self.empty_records = 0;
                return Ok(Got::Plain { total, skip: inner.skip, len: inner.len });
            }
            record::APPLICATION_DATA => {
                self.empty_records = self.empty_records.saturating_add(1);
                if self.empty_records > limits.get(Limit::EmptyRecords) {
                    return Err(Rule::TlsEmptyRecords);
                }
            }
            record::HANDSHAKE if self.form() == Form::Tls13 => self.handshake(content)?,
            record::HANDSHAKE => self.renegotiation(limits, content)?,
            _ => return Err(Rule::TlsInnerPlaintext),
        }
        self.charge(now)?;
        Ok(Got::Nothing { total })
    }

    fn form(&self) -> Form {
        self.receive.form()
    }

    // Application data in between earns the peer nothing: only time does.
    fn charge(&mut self, now: Instant) -> Result<(), Rule> {
        if self.idle_records.charge(now, 1) { Ok(()) } else { Err(Rule::TlsKeyUpdateFlood) }
    }

    fn alert(&mut self, limits: &Limits, now: Instant, content: &[u8], total: usize) -> Result<Got, Rule> {
        match Alert::read(content, self.form() != Form::Tls13)? {
            Alert::CloseNotify => Ok(Got::Closed { total }),
            Alert::Warning => {
                self.warnings = self.warnings.saturating_add(1);
                if self.warnings > limits.get(Limit::WarningAlerts) {
                    return Err(Rule::TlsWarnings);
                }
                self.charge(now)?;
                Ok(Got::Nothing { total })
            }
            Alert::Fatal => Err(Rule::TlsPeerAlert),
        }
    }

    // The only handshake message that a client may send now is a KeyUpdate (RFC 8446 §4.6): no ticket, no certificate that we
    // did not ask for, no renegotiation.
    fn handshake(&mut self, content: &[u8]) -> Result<(), Rule> {
        if content.is_empty() {
            return Err(Rule::TlsRecordEmpty); // RFC 8446 §5.1
        }
        for &byte in content {
            match (self.partial_len, KEY_UPDATE.get(self.partial_len)) {
                (0, Some(&kind)) if byte != kind => return Err(Rule::TlsPostHandshake),
                (_, Some(&expected)) if byte != expected => return Err(Rule::TlsKeyUpdate),
                (4, _) if byte > 1 => return Err(Rule::TlsKeyUpdateValue),
                // RFC 8446 §5.1: the keys change here, so the record must end here.
                (5.., _) => return Err(Rule::TlsKeyUpdate),
                _ => {}
            }
            if let Some(place) = self.partial.get_mut(self.partial_len) {
                *place = byte;
            }
            self.partial_len += 1;
        }
        if self.partial_len < self.partial.len() {
            return Ok(());
        }
        self.partial_len = 0;
        // Asked twice before we answered, one answer does (RFC 8446 §4.6.3).
        self.owe_update |= self.partial[4] == 1;
        let kernel = self.kernel.as_mut().ok_or(Rule::TlsInternal)?;
        let next = kernel.update_rx_secret().map_err(|_| Rule::TlsInternal)?;
        self.receive = Receive::new(self.suite, next)?;
        Ok(())
    }

    // The only handshake message that a client may send now in TLS 1.2 is a ClientHello, and it is not taken (RFC 5246 §7.4.1.2):
    // the first is answered with a warning and skipped, however it is cut; a second ends the connection, and under HTTP/2 the
    // first does (RFC 9113 §9.2.1).
    fn renegotiation(&mut self, limits: &Limits, content: &[u8]) -> Result<(), Rule> {
        if content.is_empty() {
            return Err(Rule::TlsRecordEmpty);
        }
        let mut rest = content;
        while let Some((&byte, behind)) = rest.split_first() {
            if self.unwanted > 0 {
                let skipped = self.unwanted.min(rest.len());
                self.unwanted -= skipped;
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            if self.partial_len == 0 {
                if byte != CLIENT_HELLO {
                    return Err(Rule::TlsPostHandshake);
                }
                self.renegotiations = self.renegotiations.checked_sub(1).ok_or(Rule::TlsRenegotiation)?;
            }
            if let Some(place) = self.partial.get_mut(self.partial_len) {
                *place = byte;
            }
            self.partial_len += 1;
            rest = behind;
            if self.partial_len == MESSAGE_HEAD {
                self.partial_len = 0;
                let [_, a, b, c, _] = self.partial;
                self.unwanted = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
                if self.unwanted > limits.size(Limit::ClientHelloBytes) {
                    return Err(Rule::TlsClientHelloTooLong);
                }
                self.owe_warning = true;
            }
        }
        Ok(())
    }

    /// Seals application data.
    pub(super) fn seal(&mut self, record: &mut [u8], len: usize) -> Result<usize, Rule> {
        self.send.seal(record, record::APPLICATION_DATA, len, KEEP_AFTER_DATA)
    }

    /// How records to send are laid out.
    pub(super) fn sealing(&self) -> Form {
        self.send.form()
    }

    /// The keys are nearly used up, and there are no next ones.
    pub(super) fn is_worn(&self) -> bool {
        self.kernel.is_none() && self.send.wearing_out()
    }

    /// rustls keeps the client's certificates beside its key schedule.
    pub(super) fn keeps_chain(&self) -> bool {
        self.kernel.is_some()
    }

    /// Asks for new keys in both directions.
    pub(super) fn update_keys(&mut self) {
        self.want_update = self.kernel.is_some();
    }

    fn update_due(&self) -> bool {
        self.owe_update || (self.kernel.is_some() && self.send.wearing_out())
    }

    /// Bytes that `flush_updates` would write.
    pub(super) fn pending_updates(&self) -> usize {
        (usize::from(self.update_due()) + usize::from(self.want_update)) * KEY_UPDATE_RECORD
            + usize::from(self.owe_warning) * self.alert_record()
    }

    /// Seals the KeyUpdates that are due, each under the keys that it ends; or the warning that takes their place in TLS 1.2.
    pub(super) fn flush_updates(&mut self, out: &mut [u8]) -> Result<usize, Rule> {
        let mut written = 0;
        if self.owe_warning {
            written = self.flush_alert(out, NO_RENEGOTIATION)?;
            self.owe_warning = written == 0;
            return Ok(written);
        }
        if self.update_due() {
            match self.key_update(out, 0)? {
                0 => return Ok(0),
                n => written = n,
            }
            self.owe_update = false;
        }
        if self.want_update {
            let n = self.key_update(out.get_mut(written..).unwrap_or_default(), 1)?;
            self.want_update = n == 0;
            written += n;
        }
        Ok(written)
    }

    fn key_update(&mut self, out: &mut [u8], request: u8) -> Result<usize, Rule> {
        let Some(record) = out.get_mut(..KEY_UPDATE_RECORD) else { return Ok(0) };
        if let Some(content) = record.get_mut(record::HEADER..record::HEADER + 5) {
            let [kind, a, b, c] = KEY_UPDATE;
            content.copy_from_slice(&[kind, a, b, c, request]);
        }
        let written = self.send.seal(record, record::HANDSHAKE, 5, KEEP_AFTER_UPDATE)?;
        let kernel = self.kernel.as_mut().ok_or(Rule::TlsInternal)?;
        let next = kernel.update_tx_secret().map_err(|_| Rule::TlsInternal)?;
        self.send = Send::new(self.suite, next)?;
        Ok(written)
    }

    /// How long a sealed alert is.
    pub(super) fn alert_record(&self) -> usize {
        let form = self.send.form();
        form.header() + 2 + form.trailer()
    }

    /// Seals an alert; 0 if `out` is too small.
    pub(super) fn flush_alert(&mut self, out: &mut [u8], code: u8) -> Result<usize, Rule> {
        let header = self.send.form().header();
        let Some(record) = out.get_mut(..self.alert_record()) else { return Ok(0) };
        if let Some(content) = record.get_mut(header..header + 2) {
            content.copy_from_slice(&alert(code));
        }
        self.send.seal(record, record::ALERT, 2, 0)
    }
}

fn start(rule: Rule) -> Fault {
    (rule, 0)
}

fn judge_kind(form: Form, kind: u8) -> Result<(), Rule> {
    match kind {
        record::APPLICATION_DATA => Ok(()),
        // In TLS 1.2 the type is not inside.
        record::ALERT | record::HANDSHAKE if form != Form::Tls13 => Ok(()),
        record::CHANGE_CIPHER_SPEC => Err(Rule::TlsChangeCipherSpec),
        _ => Err(Rule::TlsRecordType),
    }
}

fn judge_length(form: Form, len: usize) -> Result<(), Rule> {
    // TLS 1.2 has no padding: beyond that, the content would be too long.
    let most = if form == Form::Tls13 { record::CIPHERTEXT } else { record::FRAGMENT + form.overhead() };
    if len < form.overhead() {
        return Err(Rule::TlsBadRecord); // no room for what protects it
    }
    if len > most { Err(Rule::TlsRecordTooLong) } else { Ok(()) }
}

/// An alert of the peer's. Its level means nothing in TLS 1.3 (RFC 8446 §6).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Alert {
    /// The peer will send no more.
    CloseNotify,
    /// user_canceled, the one warning of TLS 1.3; in TLS 1.2 whatever says that it is one.
    Warning,
    /// Anything else.
    Fatal,
}

impl Alert {
    /// Reads the content of an alert record: exactly one alert, unfragmented (RFC 8446 §5.1). `levels`: as in TLS 1.2, the
    /// level counts (RFC 5246 §7.2).
    pub(super) fn read(content: &[u8], levels: bool) -> Result<Alert, Rule> {
        match content {
            [] => Err(Rule::TlsRecordEmpty),
            [1 | 2, 0] => Ok(Alert::CloseNotify),
            [1 | 2, 90] if !levels => Ok(Alert::Warning),
            [1, _] if levels => Ok(Alert::Warning),
            [1 | 2, _] => Ok(Alert::Fatal),
            _ => Err(Rule::TlsAlertSyntax),
        }
    }
}

/// The two bytes of an alert: the closure alerts, and that there is no renegotiation, are warnings, all others fatal (RFC 8446 §6,
/// RFC 5246 §7.2.2).
pub(super) fn alert(code: u8) -> [u8; 2] {
    [if matches!(code, 0 | 90 | NO_RENEGOTIATION) { 1 } else { 2 }, code]
}
