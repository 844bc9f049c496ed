//! In: a form in any pieces, and memory for one name. Out: names whole, values in parts.

use super::hex;
use super::pairs::width;
use crate::base::{Limit, Limits, Rule, Violation};
use crate::decode::text::Utf8;

/// What a form consists of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A pair begins: its name, whole.
    Name(&'a str),
    /// Some of its value.
    Value(&'a str),
    /// It ended.
    PairEnd,
}

/// A reader of an `application/x-www-form-urlencoded` body.
///
/// `S` is memory for one name, and for a part of a value: `[u8; N]`, `Vec<u8>`, `&mut [u8]`. [`Limit::FormNameBytes`]
/// bytes are enough for every name. Values are cut as the body and the memory are, never inside a character.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::form::{Form, Item};
///
/// let (mut form, mut told) = (Form::new([0; 64]), String::new());
/// let mut tell = |item: Item<'_>| match item {
///     Item::Name(name) => told += &format!("{name}: "),
///     Item::Value(part) => told += part,
///     Item::PairEnd => told += "; ",
/// };
/// for mut piece in [&b"a=t%C"[..], b"3%A9+cha", b"ud&b"] {
///     while let Some(item) = form.next(&mut piece, &Limits::DEFAULT)? {
///         tell(item);
///     }
/// }
/// while let Some(item) = form.finish()? {
///     tell(item);
/// }
/// assert_eq!(told, "a: té chaud; b: ; ");
/// # Ok::<(), vestibule::Violation>(())
/// ```
#[derive(Clone, Debug)]
pub struct Form<S> {
    scratch: S,
    reader: Reader,
}

impl<S: AsRef<[u8]> + AsMut<[u8]>> Form<S> {
    /// A reader at the start of a form.
    pub const fn new(scratch: S) -> Form<S> {
        Form { scratch, reader: Reader::new() }
    }

    /// The next item; `None` when `piece` is used up. What was read of `piece` is taken off its front.
    ///
    /// # Errors
    /// [`Rule::FormEscape`] at the byte that is no hexadecimal digit; [`Rule::Utf8`] at the byte, or the percent sign, that
    /// shows it; [`Rule::FormTooManyFields`], [`Rule::FormNameTooLong`], [`Rule::FormValueTooLong`] at the first byte
    /// or escape beyond; [`Rule::BodyOverHandler`], with the size of the memory, if a name does not fit it, or not even
    /// a character. The same again from then on. What came before is told before.
    pub fn next(&mut self, piece: &mut &[u8], limits: &Limits) -> Result<Option<Item<'_>>, Violation> {
        let step = self.reader.next(piece, self.scratch.as_mut(), limits)?;
        Ok(step.map(|step| step.lend(self.scratch.as_ref())))
    }

    /// The form ends here: to be called when [`Form::next`] gave `None`, and again until this gives `None`. The last pair
    /// ends with the form, so its end, and perhaps its name or the rest of its value, comes only now.
    ///
    /// # Errors
    /// [`Rule::FormEscape`] and [`Rule::Utf8`] at the length of the form, if it ends in an escape or in a character; or what
    /// [`Form::next`] said.
    pub fn finish(&mut self) -> Result<Option<Item<'_>>, Violation> {
        let step = self.reader.finish(self.scratch.as_mut())?;
        Ok(step.map(|step| step.lend(self.scratch.as_ref())))
    }

    /// How many bytes were read.
    pub const fn offset(&self) -> u64 {
        self.reader.at
    }

    /// The memory, for another form.
    pub fn into_scratch(self) -> S {
        self.scratch
    }
}

/// An item whose loan from the memory is still to be made.
#[derive(Copy, Clone)]
enum Step {
    Name(usize),
    Value(usize),
    PairEnd,
}

impl Step {
    fn lend(self, scratch: &[u8]) -> Item<'_> {
        // It was checked as it came.
        let text = |length: usize| core::str::from_utf8(scratch.get(..length).unwrap_or_default()).unwrap_or_default();
        match self {
            Step::Name(length) => Item::Name(text(length)),
            Step::Value(length) => Item::Value(text(length)),
            Step::PairEnd => Item::PairEnd,
        }
    }
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// Before a pair.
    Start,
    Name,
    Value,
    /// Behind a value that was told, but not its end.
    Ended,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Escape {
    No,
    /// Behind the percent sign,
    Percent,
    /// and behind the first digit.
    Digit(u8),
}

#[derive(Clone, Debug)]
struct Reader {
    state: State,
    escape: Escape,
    fault: Option<Violation>,
    at: u64,
    utf8: Utf8,
    /// Decoded bytes that lie in the memory,
    held: usize,
    /// of which so many were told,
    told: usize,
    /// and of the whole name or value.
    count: u64,
    fields: u64,
}

/// What stops the reading of a piece.
enum Stop {
    /// The memory is full.
    Full,
    Fault(Violation),
}

const fn over_memory(scratch: &[u8], at: u64) -> Violation {
    Violation { value: scratch.len() as u64, ..Violation::new(Rule::BodyOverHandler, at) }
}

impl Reader {
    const fn new() -> Reader {
        Reader {
            state: State::Start,
            escape: Escape::No,
            fault: None,
            at: 0,
            utf8: Utf8::new(),
            held: 0,
            told: 0,
            count: 0,
            fields: 0,
        }
    }

    fn next(&mut self, piece: &mut &[u8], scratch: &mut [u8], limits: &Limits) -> Result<Option<Step>, Violation> {
        self.make_room(scratch);
        let step = match self.fault {
            Some(fault) => Err(fault),
            None => self.step(piece, scratch, limits),
        };
        step.inspect_err(|fault| self.fault = Some(*fault))
    }

    fn finish(&mut self, scratch: &mut [u8]) -> Result<Option<Step>, Violation> {
        self.make_room(scratch);
        let step = match (self.fault, self.state) {
            (Some(fault), _) => Err(fault),
            (None, State::Start) => Ok(None),
            (None, State::Name | State::Value) => self.close(scratch).map(Some),
            (None, State::Ended) => Ok(Some(self.pair_end())),
        };
        step.inspect_err(|fault| self.fault = Some(*fault))
    }

    /// What was told makes room; what is left is the beginning of a character.
    fn make_room(&mut self, scratch: &mut [u8]) {
        if self.told > 0 {
            let end = self.held.min(scratch.len());
            let left = self.told.min(end)..end;
            self.held = left.len();
            scratch.copy_within(left, 0);
            self.told = 0;
        }
    }

    fn step(&mut self, piece: &mut &[u8], scratch: &mut [u8], limits: &Limits) -> Result<Option<Step>, Violation> {
        loop {
            let Some(&byte) = piece.first() else {
                return Ok(match self.state {
                    State::Ended => Some(self.pair_end()),
                    State::Value => self.tell(scratch),
                    State::Start | State::Name => None,
                });
            };
            let stop = match (self.state, byte) {
                (State::Ended, _) => return Ok(Some(self.pair_end())),
                (State::Start, b'&') => {
                    self.skip(piece, 1);
                    Ok(())
                }
                (State::Start, _) => self.begin(limits),
                (State::Name | State::Value, b'&') => return self.close(scratch).map(Some),
                (State::Name, b'=') if self.escape == Escape::No => {
                    self.utf8.finish().map_err(|_| Violation::new(Rule::Utf8, self.at))?;
                    self.skip(piece, 1);
                    return Ok(Some(self.name(State::Value)));
                }
                _ => self.text(piece, byte, scratch, limits),
            };
            let (fault, final_) = match stop {
                Ok(()) => continue,
                Err(Stop::Fault(fault)) => (fault, true),
                Err(Stop::Full) => (over_memory(scratch, self.at), false),
            };
            // What came before the fault is told before it, and what is told makes room.
            let Some(step) = self.tell(scratch) else { return Err(fault) };
            if final_ {
                self.fault = Some(fault);
            }
            return Ok(Some(step));
        }
    }

    fn skip(&mut self, piece: &mut &[u8], n: usize) {
        *piece = piece.get(n..).unwrap_or_default();
        self.at = self.at.saturating_add(n as u64);
    }

    fn begin(&mut self, limits: &Limits) -> Result<(), Stop> {
        if self.fields >= limits.get(Limit::FormFields) {
            return Err(Stop::Fault(Violation::over(Rule::FormTooManyFields, self.at, limits)));
        }
        self.fields += 1;
        (self.state, self.utf8, self.count) = (State::Name, Utf8::new(), 0);
        Ok(())
    }

    /// The name is complete.
    fn name(&mut self, next: State) -> Step {
        (self.state, self.utf8, self.count) = (next, Utf8::new(), 0);
        self.told = self.held;
        Step::Name(self.held)
    }

    /// What of a value can be told: whole characters.
    fn tell(&mut self, scratch: &[u8]) -> Option<Step> {
        let held = scratch.get(..self.held).unwrap_or_default();
        let begun = held.iter().rev().take(3).position(|b| b & 0xc0 != 0x80).map_or(0, |back| {
            let first = held.get(held.len() - 1 - back).copied().unwrap_or(0);
            if width(first) > back + 1 { back + 1 } else { 0 }
        });
        self.told = held.len() - begun;
        (self.state == State::Value && self.told > 0).then_some(Step::Value(self.told))
    }

    /// The pair is complete.
    fn close(&mut self, scratch: &[u8]) -> Result<Step, Violation> {
        let fault = match self.escape {
            Escape::No => self.utf8.finish().err().map(|_| Violation::new(Rule::Utf8, self.at)),
            _ => Some(Violation::new(Rule::FormEscape, self.at)),
        };
        if self.state == State::Name {
            return fault.map_or_else(|| Ok(self.name(State::Ended)), Err);
        }
        let told = self.tell(scratch);
        match (told, fault) {
            (Some(step), _) => {
                self.fault = fault;
                self.state = if fault.is_some() { State::Value } else { State::Ended };
                Ok(step)
            }
            (None, Some(fault)) => Err(fault),
            (None, None) => Ok(self.pair_end()),
        }
    }

    fn pair_end(&mut self) -> Step {
        self.state = State::Start;
        Step::PairEnd
    }

    /// Reads on in a name or a value: part of an escape, or what is plain.
    fn text(&mut self, piece: &mut &[u8], byte: u8, scratch: &mut [u8], limits: &Limits) -> Result<(), Stop> {
        let digit = hex(byte).ok_or(Stop::Fault(Violation::new(Rule::FormEscape, self.at)));
        match (self.escape, byte) {
            (Escape::Percent, _) => self.escape = Escape::Digit(digit?),
            (Escape::Digit(high), _) => {
                let byte = high << 4 | digit?;
                self.push(&[byte], self.at.saturating_sub(2), scratch, limits)?;
                self.escape = Escape::No;
            }
            (Escape::No, b'%') => self.escape = Escape::Percent,
            (Escape::No, _) => {
                let in_name = self.state == State::Name;
                let ends = |b: &u8| matches!(b, b'%' | b'&') || *b == b'=' && in_name;
                let run = piece.get(..piece.iter().position(ends).unwrap_or(piece.len())).unwrap_or_default();
                let n = self.push(run, self.at, scratch, limits)?;
                self.skip(piece, n);
                return Ok(());
            }
        }
        self.skip(piece, 1);
        Ok(())
    }

    /// Takes bytes, as many as may be and fit, at least one; says how many. `at` is where the first of them stands. They
    /// are a byte from an escape, or a run of what is plain but for plus signs.
    fn push(&mut self, bytes: &[u8], at: u64, scratch: &mut [u8], limits: &Limits) -> Result<usize, Stop> {
        let plus = self.escape == Escape::No;
        let (limit, rule) = match self.state {
            State::Name => (Limit::FormNameBytes, Rule::FormNameTooLong),
            _ => (Limit::FormValueBytes, Rule::FormValueTooLong),
        };
        let left = usize::try_from(limits.get(limit).saturating_sub(self.count)).unwrap_or(usize::MAX);
        let free = scratch.get_mut(self.held..).unwrap_or_default();
        let length = bytes.len().min(left).min(free.len());
        if length == 0 {
            return Err(if left == 0 { Stop::Fault(Violation::over(rule, at, limits)) } else { Stop::Full });
        }
        let bytes = bytes.get(..length).unwrap_or_default();
        let bad = self.utf8.push(bytes).err().map(|bad| bad.at.saturating_sub(self.count));
        let good = bad.map_or(length, |bad| usize::try_from(bad).unwrap_or(length));
        for (place, byte) in free.iter_mut().zip(bytes.iter().take(good)) {
            *place = if plus && *byte == b'+' { b' ' } else { *byte };
        }
        self.held += good;
        self.count = self.count.saturating_add(good as u64);
        match bad {
            Some(bad) => Err(Stop::Fault(Violation::new(Rule::Utf8, at.saturating_add(bad)))),
            None => Ok(good),
        }
    }
}
