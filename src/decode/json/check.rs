//! In: a JSON text, whole. Out: that it is one by RFC 8259 and inside the limits, or the rule it breaks and where.
//!
//! One pass from left to right, without recursion: what is open is a bit on a stack of 256. The keys of an object are looked
//! at once more when it ends, see `keys`.

use super::keys::{self, Keys};
use crate::base::{Limit, Limits, Rule, Violation};
use crate::decode::text::Utf8;

/// What may come next.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Want {
    /// A value.
    Value,
    /// A value, or the end of the array that just began.
    ValueOrEnd,
    /// A key, or the end of the object that just began.
    KeyOrEnd,
    Key,
    /// A comma or the end of what is open.
    CommaOrEnd,
    /// Nothing but white space.
    End,
}

pub(super) struct Checker<'t, 's> {
    text: &'t [u8],
    at: usize,
    limits: &'t Limits,
    keys: Keys<'s>,
    /// What is open: a bit for each level, set for objects.
    objects: [u64; 4],
    depth: usize,
    /// Keys of the innermost open object: the first is number `base`.
    base: usize,
    whitespace: u64,
}

impl<'t, 's> Checker<'t, 's> {
    pub(super) fn new(text: &'t [u8], limits: &'t Limits, keys: Keys<'s>) -> Self {
        Checker { text, at: 0, limits, keys, objects: [0; 4], depth: 0, base: 0, whitespace: 0 }
    }

    pub(super) fn run(mut self) -> Result<(), Violation> {
        self.encoding()?;
        let mut want = Want::Value;
        loop {
            self.space()?;
            let Some(byte) = self.peek() else {
                return match want {
                    Want::End => Ok(()),
                    Want::Value if self.depth == 0 => self.wrong(Rule::JsonEmpty),
                    _ => self.wrong(Rule::JsonTruncated),
                };
            };
            want = match (want, byte) {
                (Want::End, _) => return self.wrong(Rule::JsonTrailing),
                (Want::CommaOrEnd, b',') => {
                    self.at += 1;
                    if self.in_object() { Want::Key } else { Want::Value }
                }
                (Want::CommaOrEnd, b'}') if self.in_object() => self.close()?,
                (Want::CommaOrEnd | Want::ValueOrEnd, b']') if !self.in_object() => self.close()?,
                (Want::KeyOrEnd, b'}') => self.close()?,
                (Want::KeyOrEnd | Want::Key, b'"') => self.key()?,
                (Want::Value | Want::ValueOrEnd, _) => self.value(byte)?,
                _ => return self.wrong(Rule::JsonSyntax),
            };
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong<T>(&self, rule: Rule) -> Result<T, Violation> {
        Err(Violation::new(rule, self.at as u64))
    }

    /// The byte here breaks `rule`; if there is none, the text ends too soon.
    fn wrong_or_truncated<T>(&self, rule: Rule) -> Result<T, Violation> {
        self.wrong(if self.at < self.text.len() { rule } else { Rule::JsonTruncated })
    }

    // RFC 8259 §8.1: UTF-8 without a byte order mark. A JSON text begins with two ASCII characters, or is one: a NUL among
    // its first two bytes means UTF-16 or UTF-32.
    fn encoding(&self) -> Result<(), Violation> {
        match self.text {
            [0xef, 0xbb, 0xbf, ..] | [0xfe, 0xff, ..] | [0xff, 0xfe, ..] | [0, ..] | [_, 0, ..] => {
                self.wrong(Rule::JsonByteOrderMark)
            }
            _ => Ok(()),
        }
    }

    // RFC 8259 §2.
    fn space(&mut self) -> Result<(), Violation> {
        let count = self.rest().iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        let left = self.limits.get(Limit::JsonWhitespaceBytes) - self.whitespace;
        if count as u64 > left {
            return Err(Violation::over(Rule::JsonWhitespace, self.at as u64 + left, self.limits));
        }
        self.whitespace += count as u64;
        self.at += count;
        Ok(())
    }

    fn in_object(&self) -> bool {
        let Some(level) = self.depth.checked_sub(1) else { return false };
        self.objects.get(level / 64).is_some_and(|word| word >> (level % 64) & 1 == 1)
    }

    fn open(&mut self, object: bool) -> Result<Want, Violation> {
        if self.depth as u64 >= self.limits.get(Limit::JsonDepth) {
            return Err(Violation::over(Rule::JsonDepth, self.at as u64, self.limits));
        }
        if let Some(word) = self.objects.get_mut(self.depth / 64) {
            *word = *word & !(1 << (self.depth % 64)) | u64::from(object) << (self.depth % 64);
        }
        self.depth += 1;
        if object {
            // Where the keys of the object around begin is kept in the stack of keys, below those of the new one.
            self.keys.push(self.base, self.at)?;
            self.base = self.keys.len();
        }
        self.at += 1;
        Ok(if object { Want::KeyOrEnd } else { Want::ValueOrEnd })
    }

    fn close(&mut self) -> Result<Want, Violation> {
        if self.in_object() {
            self.keys.end_object(self.base, self.text)?;
            self.base = self.keys.pop();
        }
        self.at += 1;
        self.depth = self.depth.saturating_sub(1);
        Ok(if self.depth == 0 { Want::End } else { Want::CommaOrEnd })
    }

    fn key(&mut self) -> Result<Want, Violation> {
        keys::room_for(self.keys.len() - self.base, self.at, self.limits)?;
        let start = self.at + 1;
        self.string(Some(self.limits.get(Limit::JsonKeyBytes)))?;
        self.keys.push(start, start)?;
        self.space()?;
        if self.peek() != Some(b':') {
            return self.wrong_or_truncated(Rule::JsonSyntax);
        }
        self.at += 1;
        Ok(Want::Value)
    }

    // RFC 8259 §3.
    fn value(&mut self, first: u8) -> Result<Want, Violation> {
        match first {
            b'{' => return self.open(true),
            b'[' => return self.open(false),
            b'"' => self.string(None)?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            b'-' | b'0'..=b'9' => self.number()?,
            b'+' | b'.' => return self.wrong(Rule::JsonNumber),
            _ => return self.wrong(Rule::JsonSyntax),
        }
        Ok(if self.depth == 0 { Want::End } else { Want::CommaOrEnd })
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Violation> {
        self.at += word.iter().zip(self.rest()).take_while(|(a, b)| a == b).count();
        match self.text.get(..self.at).is_some_and(|before| before.ends_with(word)) {
            true => Ok(()),
            false => self.wrong_or_truncated(Rule::JsonSyntax),
        }
    }

    /// Reads a string, of at most `max` bytes between its quotes.
    fn string(&mut self, max: Option<u64>) -> Result<(), Violation> {
        self.at += 1;
        let start = self.at;
        let end = match max {
            Some(max) => start.saturating_add(usize::try_from(max).unwrap_or(usize::MAX)),
            None => usize::MAX,
        };
        loop {
            let plain = |b: &u8| *b >= 0x20 && *b != b'"' && *b != b'\\' && *b < 0x80;
            self.at += self.rest().iter().take_while(|b| plain(b)).count();
            if self.at > end || (self.at == end && self.peek().is_some_and(|b| b != b'"')) {
                return Err(Violation::over(Rule::JsonKeyTooLong, end as u64, self.limits));
            }
            match self.peek() {
                None => return self.wrong(Rule::JsonTruncated),
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0x80..) => self.non_ascii()?,
                Some(_) => return self.wrong(Rule::JsonString),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn non_ascii(&mut self) -> Result<(), Violation> {
        let rest = self.rest();
        let length = rest.iter().take_while(|b| **b >= 0x80).count();
        let run = rest.get(..length).unwrap_or_default();
        let mut utf8 = Utf8::new();
        utf8.push(run).and_then(|()| utf8.finish()).map_err(|v| match v.at as usize == rest.len() {
            true => Violation::new(Rule::JsonTruncated, self.text.len() as u64),
            false => v.shifted(self.at as u64),
        })?;
        self.at += length;
        Ok(())
    }

    // RFC 8259 §7. A fault lies at the byte that cannot be; half a pair, at its own backslash.
    fn escape(&mut self) -> Result<(), Violation> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                return Ok(());
            }
            Some(b'u') => self.at += 1,
            _ => return self.wrong_or_truncated(Rule::JsonString),
        }
        let lone = Err(Violation::new(Rule::JsonSurrogate, start as u64));
        match self.unit()? {
            0xdc00..=0xdfff => lone,
            0xd800..=0xdbff => {
                for expected in *b"\\u" {
                    match self.peek() {
                        Some(byte) if byte == expected => self.at += 1,
                        None => return self.wrong(Rule::JsonTruncated),
                        Some(_) => return lone,
                    }
                }
                if !(0xdc00..=0xdfff).contains(&self.unit()?) {
                    return lone;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn unit(&mut self) -> Result<u32, Violation> {
        let digits = self.rest().iter().take(4).take_while(|b| b.is_ascii_hexdigit()).count();
        let value = keys::hex(self.rest().get(..digits).unwrap_or_default());
        self.at += digits;
        match value {
            Some(value) if digits == 4 => Ok(value),
            _ => self.wrong_or_truncated(Rule::JsonString),
        }
    }

    // RFC 8259 §6.
    fn number(&mut self) -> Result<(), Violation> {
        let end = self.at.saturating_add(self.limits.size(Limit::JsonNumberBytes));
        let number = self.grammar();
        // Whatever is wrong beyond the limit, the limit was passed first.
        if self.at > end {
            return Err(Violation::over(Rule::JsonNumberTooLong, end as u64, self.limits));
        }
        number
    }

    fn grammar(&mut self) -> Result<(), Violation> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.at;
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return self.wrong(Rule::JsonNumber);
        }
        let point = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let mantissa = self.text.get(whole..self.at).unwrap_or_default();
        let mut exponent = 0i64;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let sign = if self.peek() == Some(b'-') { -1 } else { 1 };
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            let digits = self.at;
            self.digits()?;
            let digits = self.text.get(digits..self.at).unwrap_or_default();
            let value = digits.iter().fold(0i64, |n, b| n.saturating_mul(10).saturating_add(i64::from(b - b'0')));
            exponent = value.saturating_mul(sign);
        }
        if is_infinite(mantissa, point - whole, exponent) {
            return Err(Violation::new(Rule::JsonNumberRange, start as u64));
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Violation> {
        let count = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.wrong_or_truncated(Rule::JsonNumber) } else { Ok(()) }
    }
}

/// 2^1024 - 2^970, halfway between the greatest `f64` and what would come after it: from here on a number becomes infinite.
pub(super) const INFINITE: &[u8; 309] =
    b"1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070963\
    3028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447573027\
    0069855571366959622842914819860834936475292719074168444365510704342711559699508093042880177904174497792";

/// Whether a number would become infinite as an `f64`: `mantissa` with its point behind `whole_digits`, times ten to the power
/// of `exponent`. Decided by the place of its first digit and, if that is the greatest there can be, digit by digit; numbers
/// near the border are dear to convert, and a text could hold many of them.
fn is_infinite(mantissa: &[u8], whole_digits: usize, exponent: i64) -> bool {
    if exponent <= 0 && whole_digits < INFINITE.len() {
        return false;
    }
    let Some(first) = mantissa.iter().position(|b| matches!(b, b'1'..=b'9')) else { return false };
    let place = if first < whole_digits {
        (whole_digits - 1 - first) as i64
    } else {
        // Behind the point, which takes a place itself.
        -((first - whole_digits) as i64)
    };
    let digits = mantissa.iter().skip(first).filter(|b| **b != b'.').chain(core::iter::repeat(&b'0'));
    match place.saturating_add(exponent) {
        ..308 => false,
        309.. => true,
        308 => digits.take(INFINITE.len()).ge(INFINITE),
    }
}
