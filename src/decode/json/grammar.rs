//! In: a JSON text in any pieces. Out: one event for each token, lent from the piece where it lies there as it is; or the
//! rule of RFC 8259 that is broken, and where. The only home of the grammar: the checker and the tokenizer both stand on it.
//!
//! One pass from left to right, without recursion: what is open is a bit on a stack of 256. Of a token that a piece ends in,
//! these are kept: for a string the bytes of the character or the escape that is cut (twelve at most), for a key or a number
//! what came of it, in memory that the caller lends. Bytes are judged strictly in their order, limits among them, so that
//! no cut can change which rule is broken first.

use super::keys;
use super::number::{self, Next, Shape};
use super::string::{LONGEST, Unit, front, scan};
use crate::base::{Limit, Limits, Rule, Violation};
use crate::decode::text;

/// What may come next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// The first bytes, which tell the encoding.
    Start,
    /// A value.
    Value,
    /// A value, or the end of the array that just began.
    ValueOrEnd,
    /// A key, or the end of the object that just began.
    KeyOrEnd,
    Key,
    Colon,
    /// A comma or the end of what is open.
    CommaOrEnd,
    /// Nothing but white space.
    End,
    /// More of a key or a string.
    Text,
    /// More of a number.
    Number,
    /// More of `true`, `false` or `null`.
    Literal,
}

/// Where the text of a key, a number or a part of a string lies.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Lies<'c> {
    /// In the piece.
    Here(&'c str),
    /// The first bytes of the memory.
    Scratch(usize),
    /// The first bytes of [`Machine::few`].
    Few(usize),
}

/// What a step came to. It fits a register: checking is a matter of a nanosecond a byte.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// The piece is used up.
    More,
    /// A rule is broken: [`Piece::fault`].
    Fault,
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Key,
    /// Some of a string.
    Part,
    /// All that was left of it.
    Last,
    Number,
    True,
    False,
    Null,
}

/// A piece of the text, and what goes with it.
pub(super) struct Piece<'c, 'p> {
    pub(super) bytes: &'c [u8],
    pub(super) at: usize,
    /// The text ends where it ends.
    pub(super) is_last: bool,
    pub(super) limits: &'p Limits,
    /// Keeps keys and numbers that are cut, or escaped. The same bytes with every piece.
    pub(super) scratch: &'p mut [u8],
    /// Out: where the text of the event lies.
    pub(super) lies: Lies<'c>,
    /// Out: the rule that is broken.
    pub(super) fault: Option<Violation>,
}

impl<'c, 'p> Piece<'c, 'p> {
    pub(super) fn new(bytes: &'c [u8], is_last: bool, limits: &'p Limits, scratch: &'p mut [u8]) -> Self {
        Piece { bytes, at: 0, is_last, limits, scratch, lies: Lies::Here(""), fault: None }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &'c [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}

/// Room for characters that were escaped or cut, before they are handed out.
const FEW: usize = 48;

#[derive(Clone, Debug)]
pub(super) struct Machine {
    state: State,
    /// Where the piece begins in the text.
    pub(super) base: u64,
    /// Where the token begins.
    start: u64,
    /// What is open: a bit for each level, set for objects.
    objects: [u64; 4],
    depth: usize,
    whitespace: u64,
    /// Keys of the innermost open object. Who steps keeps those of the objects around it.
    pub(super) keys: usize,
    /// Whether anybody wants to know what strings and keys say; they are checked in any case.
    pub(super) wanted: bool,
    /// How long a key or a number may be, whatever the limits say.
    room: usize,
    is_key: bool,
    /// What came of the token: bytes of a key or a number in the memory, or of a literal.
    length: usize,
    shape: Shape,
    word: &'static [u8],
    /// The beginning of a character, an escape or, at first, the text, that a piece ended in.
    held: [u8; LONGEST],
    held_length: usize,
    pub(super) few: [u8; FEW],
}

impl Machine {
    /// At the start of a text; keys and numbers may have `room` bytes at most.
    pub(super) const fn new(room: usize) -> Machine {
        Machine {
            state: State::Start,
            base: 0,
            start: 0,
            objects: [0; 4],
            depth: 0,
            whitespace: 0,
            keys: 0,
            wanted: true,
            room,
            is_key: false,
            length: 0,
            shape: Shape::Start,
            word: b"",
            held: [0; LONGEST],
            held_length: 0,
            few: [0; FEW],
        }
    }

    /// Levels that are open.
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    /// Where the token of the last event begins.
    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    /// The next event.
    pub(super) fn step(&mut self, piece: &mut Piece<'_, '_>) -> Event {
        match self.advance(piece) {
            Ok(event) => event.unwrap_or(Event::More),
            Err(violation) => {
                piece.fault = Some(violation);
                Event::Fault
            }
        }
    }

    #[inline(always)]
    fn advance(&mut self, piece: &mut Piece<'_, '_>) -> Result<Option<Event>, Violation> {
        if self.state == State::Start {
            match piece.bytes {
                // As nearly every text begins.
                [1..=0x7f, second, ..] if *second != 0 && self.held_length == 0 => self.state = State::Value,
                _ => match self.encoding(piece)? {
                    None => {}
                    event => return Ok(event),
                },
            }
        }
        loop {
            match self.state {
                State::Start => return Ok(None),
                State::Text => return self.text(piece),
                State::Number => return self.number(piece),
                State::Literal => return self.literal(piece),
                _ => {}
            }
            let Some(mut byte) = piece.peek() else { return self.used_up(piece) };
            if is_space(byte) {
                self.space(piece)?;
                let Some(next) = piece.peek() else { return self.used_up(piece) };
                byte = next;
            }
            match (self.state, byte) {
                (State::Value | State::ValueOrEnd, b'"') => {
                    self.is_key = false;
                    if self.plain_text(u64::MAX, piece) {
                        return Ok(Some(self.end_text()));
                    }
                }
                (State::CommaOrEnd, b',') => {
                    piece.at += 1;
                    self.state = if self.in_object() { State::Key } else { State::Value };
                }
                (State::KeyOrEnd | State::Key, b'"') => {
                    keys::room_for(self.keys, self.here(piece), piece.limits)?;
                    self.keys += 1;
                    self.is_key = true;
                    if self.plain_text(self.most(Limit::JsonKeyBytes, piece), piece) {
                        return Ok(Some(self.end_text()));
                    }
                }
                (State::Colon, b':') => {
                    piece.at += 1;
                    self.state = State::Value;
                }
                (State::CommaOrEnd, b'}') if self.in_object() => return Ok(Some(self.close(piece))),
                (State::CommaOrEnd | State::ValueOrEnd, b']') if !self.in_object() => {
                    return Ok(Some(self.close(piece)));
                }
                (State::KeyOrEnd, b'}') => return Ok(Some(self.close(piece))),
                (State::Value | State::ValueOrEnd, b'{') => return self.open(true, piece).map(Some),
                (State::Value | State::ValueOrEnd, b'[') => return self.open(false, piece).map(Some),
                (State::Value | State::ValueOrEnd, b'-' | b'0'..=b'9') => {
                    self.begin(State::Number, piece);
                    self.shape = Shape::Start;
                    return self.number(piece);
                }
                (State::Value | State::ValueOrEnd, _) => {
                    self.begin_literal(byte, piece)?;
                    return self.literal(piece);
                }
                (State::End, _) => return self.wrong(Rule::JsonTrailing, piece),
                _ => return self.wrong(Rule::JsonSyntax, piece),
            }
        }
    }

    /// Where the next byte of the piece lies in the text.
    fn here(&self, piece: &Piece<'_, '_>) -> u64 {
        self.base.saturating_add(piece.at as u64)
    }

    fn wrong<T>(&self, rule: Rule, piece: &Piece<'_, '_>) -> Result<T, Violation> {
        Err(Violation::new(rule, self.here(piece)))
    }

    /// There is no byte left: more is needed, or the text is over.
    fn used_up<T>(&self, piece: &Piece<'_, '_>) -> Result<Option<T>, Violation> {
        match self.state {
            _ if !piece.is_last => Ok(None),
            State::End => Ok(None),
            State::Value if self.depth == 0 => self.wrong(Rule::JsonEmpty, piece),
            _ => self.wrong(Rule::JsonTruncated, piece),
        }
    }

    // RFC 8259 §8.1: UTF-8 without a byte order mark. A JSON text begins with two ASCII characters, or is one: a NUL among
    // its first two bytes means UTF-16 or UTF-32. Nothing is told before that is sure.
    #[cold]
    fn encoding(&mut self, piece: &mut Piece<'_, '_>) -> Result<Option<Event>, Violation> {
        let held = self.held_length;
        for slot in self.held.iter_mut().take(3).skip(held) {
            let Some(byte) = piece.peek() else { break };
            *slot = byte;
            self.held_length += 1;
            piece.at += 1;
        }
        match self.held.get(..self.held_length).unwrap_or_default() {
            [0xef, 0xbb, 0xbf, ..] | [0xfe, 0xff, ..] | [0xff, 0xfe, ..] | [0, ..] | [_, 0, ..] => {
                return Err(Violation::new(Rule::JsonByteOrderMark, 0));
            }
            [] | [_] | [0xef, 0xbb] if !piece.is_last => return Ok(None),
            _ => {}
        }
        // What this piece brought is read again, from here; what the one before it brought, now.
        piece.at -= self.held_length - held;
        self.held_length = 0;
        self.state = State::Value;
        let (before, base) = (self.held, self.base);
        let bytes = before.get(..held).unwrap_or_default();
        let mut front = Piece::new(bytes, false, piece.limits, piece.scratch);
        self.base = 0;
        // One byte, or two that are no JSON: an event without text.
        let event = if bytes.is_empty() { Event::More } else { self.step(&mut front) };
        self.base = base;
        match (event, front.fault) {
            (_, Some(violation)) => Err(violation),
            (Event::More, None) => Ok(None),
            (event, None) => Ok(Some(event)),
        }
    }

    // RFC 8259 §2.
    fn space(&mut self, piece: &mut Piece<'_, '_>) -> Result<(), Violation> {
        let count = piece.rest().iter().take_while(|b| is_space(**b)).count();
        let left = piece.limits.get(Limit::JsonWhitespaceBytes).saturating_sub(self.whitespace);
        if count as u64 > left {
            let at = self.here(piece).saturating_add(left);
            return Err(Violation::over(Rule::JsonWhitespace, at, piece.limits));
        }
        self.whitespace += count as u64;
        piece.at += count;
        Ok(())
    }

    fn in_object(&self) -> bool {
        let Some(level) = self.depth.checked_sub(1) else { return false };
        self.objects.get(level / 64).is_some_and(|word| word >> (level % 64) & 1 == 1)
    }

    fn begin(&mut self, state: State, piece: &Piece<'_, '_>) {
        self.state = state;
        self.start = self.here(piece);
        self.length = 0;
    }

    fn open(&mut self, object: bool, piece: &mut Piece<'_, '_>) -> Result<Event, Violation> {
        self.begin(if object { State::KeyOrEnd } else { State::ValueOrEnd }, piece);
        if self.depth as u64 >= piece.limits.get(Limit::JsonDepth) {
            return Err(Violation::over(Rule::JsonDepth, self.start, piece.limits));
        }
        if let Some(word) = self.objects.get_mut(self.depth / 64) {
            *word = *word & !(1 << (self.depth % 64)) | u64::from(object) << (self.depth % 64);
        }
        self.depth += 1;
        piece.at += 1;
        Ok(if object { Event::ObjectStart } else { Event::ArrayStart })
    }

    fn close(&mut self, piece: &mut Piece<'_, '_>) -> Event {
        self.begin(State::End, piece);
        let object = self.in_object();
        piece.at += 1;
        self.depth = self.depth.saturating_sub(1);
        self.state = self.behind_value();
        if object { Event::ObjectEnd } else { Event::ArrayEnd }
    }

    const fn behind_value(&self) -> State {
        if self.depth == 0 { State::End } else { State::CommaOrEnd }
    }

    /// Begins a key or a string, and reads all of it if it lies here and is as plain as most are: without escapes, of `most`
    /// bytes.
    #[inline(always)]
    fn plain_text(&mut self, most: u64, piece: &mut Piece<'_, '_>) -> bool {
        self.start = self.here(piece);
        piece.at += 1;
        let rest = piece.rest();
        let (length, is_ascii) = scan(rest);
        let is_here = rest.get(length) == Some(&b'"') && length as u64 <= most;
        if is_here && is_ascii && !self.wanted {
            piece.at += length + 1;
            return true;
        }
        let text = if is_here { text::valid_front(front(rest, length as u64)) } else { "" };
        if !is_here || text.len() < length {
            self.state = State::Text;
            self.length = 0;
            return false;
        }
        piece.lies = Lies::Here(text);
        piece.at += length + 1;
        true
    }

    // RFC 8259 §3.
    fn begin_literal(&mut self, first: u8, piece: &Piece<'_, '_>) -> Result<(), Violation> {
        self.begin(State::Literal, piece);
        self.word = match first {
            b't' => b"true",
            b'f' => b"false",
            b'n' => b"null",
            b'+' | b'.' => return self.wrong(Rule::JsonNumber, piece),
            _ => return self.wrong(Rule::JsonSyntax, piece),
        };
        Ok(())
    }

    #[inline]
    fn literal(&mut self, piece: &mut Piece<'_, '_>) -> Result<Option<Event>, Violation> {
        let wanted = self.word.get(self.length..).unwrap_or_default();
        let count = wanted.iter().zip(piece.rest()).take_while(|(a, b)| a == b).count();
        self.length += count;
        piece.at += count;
        if count < wanted.len() {
            return if piece.peek().is_some() { self.wrong(Rule::JsonSyntax, piece) } else { self.used_up(piece) };
        }
        self.state = self.behind_value();
        Ok(Some(match self.word {
            b"null" => Event::Null,
            b"true" => Event::True,
            _ => Event::False,
        }))
    }

    /// How many bytes of a key or a number may come.
    fn most(&self, limit: Limit, piece: &Piece<'_, '_>) -> u64 {
        piece.limits.get(limit).min(self.room as u64)
    }

    /// Keeps more of a key or a number. There is room, for it is shorter than the memory.
    fn keep(&mut self, bytes: &[u8], scratch: &mut [u8], full: Violation) -> Result<(), Violation> {
        let end = self.length.saturating_add(bytes.len());
        scratch.get_mut(self.length..end).ok_or(full)?.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    // RFC 8259 §6.
    #[inline]
    fn number(&mut self, piece: &mut Piece<'_, '_>) -> Result<Option<Event>, Violation> {
        let most = self.most(Limit::JsonNumberBytes, piece);
        let end = self.start.saturating_add(most);
        let long = Violation { rule: Rule::JsonNumberTooLong, at: end, value: most };
        let rest = piece.rest();
        let within = front(rest, end.saturating_sub(self.here(piece)));
        let digits = front(rest, self.shape.take(within) as u64);
        piece.at += digits.len();
        match piece.peek().map(|byte| self.shape.next(byte)) {
            Some(Next::Ends) => {}
            Some(Next::Wrong) => return self.wrong(Rule::JsonNumber, piece),
            Some(Next::Goes(_)) => return Err(long),
            None if piece.is_last && self.shape.is_complete() => {}
            None if piece.is_last => return self.wrong(Rule::JsonTruncated, piece),
            None => return self.keep(digits, piece.scratch, long).map(|()| None),
        }
        let is_whole = self.length == 0;
        if !is_whole {
            self.keep(digits, piece.scratch, long)?;
        }
        let number = if is_whole { digits } else { piece.scratch.get(..self.length).unwrap_or_default() };
        // Only these can be.
        let is_great = self.shape == Shape::Power || number.len() >= number::INFINITE.len();
        if is_great && number::is_infinite(number) {
            return Err(Violation::new(Rule::JsonNumberRange, self.start));
        }
        self.state = self.behind_value();
        if self.wanted {
            piece.lies = if is_whole { Lies::Here(text::valid_front(digits)) } else { Lies::Scratch(self.length) };
        }
        Ok(Some(Event::Number))
    }

    // RFC 8259 §7.
    #[inline]
    fn text(&mut self, piece: &mut Piece<'_, '_>) -> Result<Option<Event>, Violation> {
        let most = if self.is_key { self.most(Limit::JsonKeyBytes, piece) } else { u64::MAX };
        let end = self.start.saturating_add(1).saturating_add(most);
        let long = Violation { rule: Rule::JsonKeyTooLong, at: end, value: most };
        loop {
            let at_end = self.held_length == 0 && piece.peek() == Some(b'"');
            if at_end {
                piece.at += 1;
                piece.lies = if self.is_key { Lies::Scratch(self.length) } else { Lies::Here("") };
                return Ok(Some(self.end_text()));
            }
            let (from, rest) = (self.here(piece), piece.rest());
            let within = front(rest, end.saturating_sub(from));
            let run = if self.held_length == 0 { self.plain(within) } else { Ok("") };
            let part = match run {
                Ok("") => self.units(within, piece)?,
                Ok(run) => {
                    piece.at += run.len();
                    Lies::Here(run)
                }
                // Nobody wants it.
                Err(length) => {
                    piece.at += length;
                    continue;
                }
            };
            if part == Lies::Few(0) {
                return match within.len() < rest.len() {
                    true => Err(long),
                    false => self.used_up(piece),
                };
            }
            if !self.wanted {
                continue;
            }
            let closes = self.held_length == 0 && piece.peek() == Some(b'"');
            let is_whole = closes && from == self.start.saturating_add(1) && matches!(part, Lies::Here(_));
            // A string goes out in parts. A key is kept until it is whole, unless it lies here whole.
            if !self.is_key || is_whole {
                piece.lies = part;
                if !closes {
                    return Ok(Some(Event::Part));
                }
                piece.at += 1;
                return Ok(Some(self.end_text()));
            }
            match part {
                Lies::Here(run) => self.keep(run.as_bytes(), piece.scratch, long)?,
                Lies::Few(length) | Lies::Scratch(length) => {
                    let few = self.few;
                    self.keep(few.get(..length).unwrap_or_default(), piece.scratch, long)?;
                }
            }
        }
    }

    fn end_text(&mut self) -> Event {
        if self.is_key {
            self.state = State::Colon;
            return Event::Key;
        }
        self.state = self.behind_value();
        Event::Last
    }

    /// The characters at the front of `bytes` that stand for themselves and are not cut. `Err` with their length if nobody
    /// wants them.
    fn plain<'c>(&self, bytes: &'c [u8]) -> Result<&'c str, usize> {
        let (length, is_ascii) = scan(bytes);
        let run = front(bytes, length as u64);
        match self.wanted {
            false if is_ascii && length > 0 => Err(length),
            _ => Ok(text::valid_front(run)),
        }
    }

    /// Escapes, and a character that is cut, at the front of `within`, after what is held. Gives them as UTF-8; nothing if
    /// all of `within` is held now, or there is nothing.
    fn units<'c>(&mut self, within: &[u8], piece: &mut Piece<'_, '_>) -> Result<Lies<'c>, Violation> {
        let (mut length, mut rest) = (0, within);
        loop {
            let held = self.held_length;
            match rest.first() {
                Some(b'\\') if FEW - length >= 4 => {}
                Some(0x80..) if length == 0 => {}
                _ if held > 0 => {}
                // A control character, or the end of what there is.
                Some(_) if length == 0 => return self.wrong(Rule::JsonString, piece),
                _ => return Ok(Lies::Few(length)),
            }
            let at = self.here(piece).saturating_sub(held as u64);
            let unit = if held == 0 { Unit::new(rest) } else { self.longer(rest) };
            match unit {
                Unit::Char { bytes, character } => {
                    let taken = bytes.saturating_sub(held);
                    self.held_length = 0;
                    piece.at += taken;
                    rest = rest.get(taken..).unwrap_or_default();
                    if let Some(room) = self.few.get_mut(length..).filter(|room| room.len() >= 4) {
                        length += character.encode_utf8(room).len();
                    }
                }
                // What is complete goes out first; what comes behind it is looked at again.
                Unit::Wrong { .. } | Unit::Cut if length > 0 => return Ok(Lies::Few(length)),
                Unit::Wrong { rule, at: behind } => {
                    return Err(Violation::new(rule, at.saturating_add(behind as u64)));
                }
                Unit::Cut => {
                    if held == 0 {
                        self.longer(rest);
                    }
                    self.held_length = held.saturating_add(rest.len()).min(LONGEST);
                    piece.at += rest.len();
                    return Ok(Lies::Few(0));
                }
            }
        }
    }

    /// What is held, with what `rest` adds to it.
    fn longer(&mut self, rest: &[u8]) -> Unit {
        let free = self.held.get_mut(self.held_length..).unwrap_or_default();
        let count = free.len().min(rest.len());
        free.iter_mut().zip(rest).for_each(|(slot, byte)| *slot = *byte);
        Unit::new(front(&self.held, self.held_length.saturating_add(count) as u64))
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
