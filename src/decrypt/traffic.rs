//! In: protected records after the handshake, and what we want to say. Out: plaintext in place, sealed records, next keys.
//!
//! rustls keeps the secrets and the key schedule (its kernel connection); records, KeyUpdates, alerts and floods are ours.

use rustls::Tls13CipherSuite;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::record::{self, Fault, Header, Inner, Receive, Send};
use crate::base::{Bucket, Instant, Limit, Limits, Rule};

// RFC 8446 §4.6.3: the message type, a length of one, and what is asked.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
/// A sealed KeyUpdate.
pub(super) const KEY_UPDATE_RECORD: usize = record::HEADER + 5 + record::TRAILER;
/// A sealed alert.
pub(super) const ALERT_RECORD: usize = record::HEADER + 2 + record::TRAILER;
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
    kernel: KernelConnection<ServerConnectionData>,
    suite: &'static Tls13CipherSuite,
    receive: Receive,
    send: Send,
    /// The first bytes of a handshake message that goes on in the next record.
    partial: [u8; 5],
    partial_len: usize,
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
        kernel: KernelConnection<ServerConnectionData>,
        suite: &'static Tls13CipherSuite,
        receive: Receive,
        send: Send,
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
            empty_records: 0,
            warnings: 0,
            idle_records: Bucket::new(limits.get(Limit::KeyUpdateBurst), limits.get(Limit::KeyUpdateRate), now),
            owe_update: false,
            want_update: false,
        }
    }

    /// Opens the record that `raw` begins with.
    pub(super) fn open(&mut self, limits: &Limits, now: Instant, raw: &mut [u8]) -> Result<Got, Fault> {
        let total = match record::header(raw, true, judge_kind, judge_length)? {
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
            record::APPLICATION_DATA if self.partial_len > 0 => return Err(Rule::TlsInnerPlaintext),
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
            record::HANDSHAKE => self.handshake(content)?,
            _ => return Err(Rule::TlsInnerPlaintext),
        }
        self.charge(now)?;
        Ok(Got::Nothing { total })
    }

    // Application data in between earns the peer nothing: only time does.
    fn charge(&mut self, now: Instant) -> Result<(), Rule> {
        if self.idle_records.charge(now, 1) { Ok(()) } else { Err(Rule::TlsKeyUpdateFlood) }
    }

    fn alert(&mut self, limits: &Limits, now: Instant, content: &[u8], total: usize) -> Result<Got, Rule> {
        match Alert::read(content)? {
            Alert::CloseNotify => Ok(Got::Closed { total }),
            Alert::UserCanceled => {
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
        let next = self.kernel.update_rx_secret().map_err(|_| Rule::TlsInternal)?;
        self.receive = Receive::new(self.suite, next)?;
        Ok(())
    }

    /// Seals application data.
    pub(super) fn seal(&mut self, record: &mut [u8], len: usize) -> Result<usize, Rule> {
        self.send.seal(record, record::APPLICATION_DATA, len, KEEP_AFTER_DATA)
    }

    /// Asks for new keys in both directions.
    pub(super) fn update_keys(&mut self) {
        self.want_update = true;
    }

    /// Bytes that `flush_updates` would write.
    pub(super) fn pending_updates(&self) -> usize {
        let answer = self.owe_update || self.send.wearing_out();
        (usize::from(answer) + usize::from(self.want_update)) * KEY_UPDATE_RECORD
    }

    /// Seals the KeyUpdates that are due, each under the keys that it ends.
    pub(super) fn flush_updates(&mut self, out: &mut [u8]) -> Result<usize, Rule> {
        let mut written = 0;
        if self.owe_update || self.send.wearing_out() {
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
        let next = self.kernel.update_tx_secret().map_err(|_| Rule::TlsInternal)?;
        self.send = Send::new(self.suite, next)?;
        Ok(written)
    }

    /// Seals an alert; 0 if `out` is too small.
    pub(super) fn flush_alert(&mut self, out: &mut [u8], code: u8) -> Result<usize, Rule> {
        let Some(record) = out.get_mut(..ALERT_RECORD) else { return Ok(0) };
        if let Some(content) = record.get_mut(record::HEADER..record::HEADER + 2) {
            content.copy_from_slice(&alert(code));
        }
        self.send.seal(record, record::ALERT, 2, 0)
    }
}

fn start(rule: Rule) -> Fault {
    (rule, 0)
}

fn judge_kind(kind: u8) -> Result<(), Rule> {
    match kind {
        record::APPLICATION_DATA => Ok(()),
        record::CHANGE_CIPHER_SPEC => Err(Rule::TlsChangeCipherSpec),
        _ => Err(Rule::TlsRecordType),
    }
}

fn judge_length(_: u8, len: usize) -> Result<(), Rule> {
    match len {
        0..record::TRAILER => Err(Rule::TlsBadRecord), // no room for a type and a tag
        record::TRAILER..=record::CIPHERTEXT => Ok(()),
        _ => Err(Rule::TlsRecordTooLong),
    }
}

/// An alert of the peer's. Its level means nothing in TLS 1.3 (RFC 8446 §6).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Alert {
    /// The peer will send no more.
    CloseNotify,
    /// The one warning that there is.
    UserCanceled,
    /// Anything else.
    Fatal,
}

impl Alert {
    /// Reads the content of an alert record: exactly one alert, unfragmented (RFC 8446 §5.1).
    pub(super) fn read(content: &[u8]) -> Result<Alert, Rule> {
        match content {
            [] => Err(Rule::TlsRecordEmpty),
            [1 | 2, 0] => Ok(Alert::CloseNotify),
            [1 | 2, 90] => Ok(Alert::UserCanceled),
            [1 | 2, _] => Ok(Alert::Fatal),
            _ => Err(Rule::TlsAlertSyntax),
        }
    }
}

/// The two bytes of an alert: the closure alerts are warnings, all others fatal (RFC 8446 §6).
pub(super) fn alert(code: u8) -> [u8; 2] {
    [if matches!(code, 0 | 90) { 1 } else { 2 }, code]
}
