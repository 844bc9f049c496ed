//! In: a JSON text in pieces. Out: its tokens, one at a time, lent from the piece where they lie there as they are, else
//! from the tokenizer; or the rule that is broken, and where.

use super::grammar::{Event, Lies, Machine, Piece};
use crate::base::{Limits, Violation};

/// A token of a JSON text. Keys and strings are unescaped; `\u0000` is U+0000 there, like any other character.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Token<'a> {
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// A key, whole. The tokens of its value follow.
    Key(&'a str),
    /// The next part of a string. Parts may be empty; only all of them together are the string.
    String {
        /// What comes next of it.
        part: &'a str,
        /// The string ends with this part.
        last: bool,
    },
    /// A number, whole, as it was written. It is one by the grammar, and no `f64` makes it infinite: `parse` it as what is
    /// wanted.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// `null`
    Null,
}

/// A strict tokenizer of JSON (RFC 8259) that takes the text in any pieces: bodies of any length, in a memory that does not
/// grow.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::json::{Token, Tokenizer};
///
/// // Sums what all orders cost, however many there are and wherever the body is cut.
/// let pieces = [&br#"{"orders": [{"id": 1, "pri"#[..], br#"ce": 1"#, br#"2.5, "tags": ["a"]}, {"price": 3}]}"#];
/// let mut tokens = Tokenizer::default();
/// let (mut sum, mut is_price) = (0.0, false);
/// for mut piece in pieces {
///     while let Some(token) = tokens.next(&mut piece, &Limits::DEFAULT)? {
///         let is_key = token == Token::Key("price");
///         match token {
///             Token::Number(number) if is_price => sum += number.parse::<f64>().expect("a number"),
///             Token::Key("tags") => tokens.skip(),
///             _ => {}
///         }
///         is_price = is_key;
///     }
/// }
/// tokens.finish()?;
/// assert_eq!(sum, 15.5);
/// # Ok::<(), vestibule::Violation>(())
/// ```
///
/// What is taken, what is refused and where, and which limits hold is as in [`check_in`](super::check_in), with one
/// exception: a key that its object holds already is not refused, both are handed out (RFC 8259 §4: "the behavior of
/// software that receives such an object is unpredictable"). Who takes the one or the other must know which. Tokens before a
/// fault are handed out before it is told, so nothing that they ask for is sure until [`Tokenizer::finish`]. One text is
/// read, and nothing may follow it.
///
/// `S` is memory for keys and numbers that are cut or escaped: `[u8; N]`, `Vec<u8>`, `&mut [u8]`. Whatever
/// [`Limit::JsonKeyBytes`](crate::Limit::JsonKeyBytes) and [`Limit::JsonNumberBytes`](crate::Limit::JsonNumberBytes) allow,
/// those that are longer than it are refused, cut or not. 1 KiB, as in [`Tokenizer::default`], fits both defaults.
#[derive(Clone, Debug)]
pub struct Tokenizer<S = [u8; 1024]> {
    walk: Walk,
    scratch: S,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Tokenizer::new([0; 1024])
    }
}

impl<S> Tokenizer<S> {
    /// How many objects and arrays are open, one that has just begun included.
    pub const fn depth(&self) -> usize {
        self.walk.depth
    }

    /// Where the last token begins in the text: for any part of a string, its first quote.
    ///
    /// `Violation::new(Rule::JsonShape, tokens.start())` answers a token that should not be there.
    pub const fn start(&self) -> u64 {
        self.walk.start
    }

    /// How many bytes were read.
    pub const fn offset(&self) -> u64 {
        self.walk.machine.base
    }

    /// The memory, for another text.
    pub fn into_scratch(self) -> S {
        self.scratch
    }

    /// Skips the value that the last token has begun, or that follows it if it was a key: it is checked, but no token of it is
    /// handed out. Does nothing behind a token that was complete.
    ///
    /// ```
    /// use vestibule::Limits;
    /// use vestibule::decode::json::{Token, Tokenizer};
    /// let (mut tokens, mut text) = (Tokenizer::default(), &br#"[{"a": [1, {}]}, 2]"#[..]);
    /// assert_eq!(tokens.next(&mut text, &Limits::DEFAULT)?, Some(Token::ArrayStart));
    /// assert_eq!(tokens.next(&mut text, &Limits::DEFAULT)?, Some(Token::ObjectStart));
    /// tokens.skip();
    /// assert_eq!(tokens.next(&mut text, &Limits::DEFAULT)?, Some(Token::Number("2")));
    /// # Ok::<(), vestibule::Violation>(())
    /// ```
    pub fn skip(&mut self) {
        self.walk.skips = self.walk.open.is_some();
        self.walk.machine.wanted = !self.walk.skips;
    }
}

impl<S: AsRef<[u8]> + AsMut<[u8]>> Tokenizer<S> {
    /// A tokenizer at the start of a text.
    ///
    /// ```
    /// use vestibule::decode::json::{Token, Tokenizer};
    /// use vestibule::{Limit, Limits};
    /// let limits = Limits::DEFAULT.with(Limit::JsonKeyBytes, 8_192)?;
    /// let mut tokens = Tokenizer::new(vec![0; 8_192]);
    /// # let _ = tokens.next(&mut &b"{}"[..], &limits);
    /// # Ok::<(), vestibule::LimitError>(())
    /// ```
    pub fn new(scratch: S) -> Tokenizer<S> {
        Tokenizer { walk: Walk::new(scratch.as_ref().len()), scratch }
    }

    /// The next token; `None` when `piece` is used up. What was read of `piece` is taken off its front.
    ///
    /// # Errors
    /// As [`check_in`](super::check_in), but for duplicate keys; if a key or a number does not fit the memory, the rule of its
    /// limit with the memory's size as the value. The same again from then on.
    #[inline]
    pub fn next<'t, 'p: 't>(
        &'t mut self,
        piece: &mut &'p [u8],
        limits: &Limits,
    ) -> Result<Option<Token<'t>>, Violation> {
        let mut cursor = Piece::new(piece, false, limits, self.scratch.as_mut());
        let event = self.walk.next(&mut cursor);
        let (at, lies) = (cursor.at, cursor.lies);
        *piece = piece.get(at..).unwrap_or_default();
        Ok(self.token(event?, lies))
    }

    /// The text ends here: to be called when [`Tokenizer::next`] gave `None`. Gives a token only if the text is nothing but a
    /// number, which nothing else can end, and that once.
    ///
    /// # Errors
    /// As [`Tokenizer::next`]: the text may be incomplete, or empty.
    pub fn finish(&mut self) -> Result<Option<Token<'_>>, Violation> {
        let mut cursor = Piece::new(&[], true, &Limits::DEFAULT, self.scratch.as_mut());
        let event = self.walk.next(&mut cursor)?;
        let lies = cursor.lies;
        // A number that ends here may still lie in an array that does not.
        self.walk.next(&mut cursor)?;
        Ok(self.token(event, lies))
    }

    fn token<'t, 'p: 't>(&'t self, event: Event, lies: Lies<'p>) -> Option<Token<'t>> {
        let (bytes, length) = match lies {
            Lies::Here(text) => return token(event, text),
            Lies::Scratch(length) => (self.scratch.as_ref(), length),
            Lies::Few(length) => (&self.walk.machine.few[..], length),
        };
        // It was UTF-8 when it was put there.
        let text = core::str::from_utf8(bytes.get(..length).unwrap_or_default());
        token(event, text.unwrap_or_default())
    }
}

const fn token(event: Event, text: &str) -> Option<Token<'_>> {
    Some(match event {
        Event::More | Event::Fault => return None,
        Event::ObjectStart => Token::ObjectStart,
        Event::ObjectEnd => Token::ObjectEnd,
        Event::ArrayStart => Token::ArrayStart,
        Event::ArrayEnd => Token::ArrayEnd,
        Event::Key => Token::Key(text),
        Event::Part => Token::String { part: text, last: false },
        Event::Last => Token::String { part: text, last: true },
        Event::Number => Token::Number(text),
        Event::True => Token::Bool(true),
        Event::False => Token::Bool(false),
        Event::Null => Token::Null,
    })
}

/// All of a tokenizer but its memory, whose type it does not know.
#[derive(Clone, Debug)]
struct Walk {
    machine: Machine,
    /// For each level that is an object, the keys of the one around it.
    keys: [u32; 256],
    /// If the last token left a value open, or about to begin: how many levels are open when it has ended.
    open: Option<usize>,
    /// Nothing is handed out until then.
    skips: bool,
    depth: usize,
    start: u64,
    fault: Option<Violation>,
}

impl Walk {
    const fn new(room: usize) -> Walk {
        let machine = Machine::new(room);
        Walk { machine, keys: [0; 256], open: None, skips: false, depth: 0, start: 0, fault: None }
    }

    fn next(&mut self, piece: &mut Piece<'_, '_>) -> Result<Event, Violation> {
        if let Some(violation) = self.fault {
            return Err(violation);
        }
        let event = loop {
            let event = self.machine.step(piece);
            if self.booked(event) {
                break event;
            }
        };
        self.fault = piece.fault;
        self.machine.base = self.machine.base.saturating_add(piece.at as u64);
        self.fault.map_or(Ok(event), Err)
    }

    /// Keeps account of what is open; says whether the event is to be told.
    fn booked(&mut self, event: Event) -> bool {
        let depth = self.machine.depth();
        let open = match event {
            Event::More | Event::Fault => return true,
            Event::ObjectStart => {
                if let Some(slot) = self.keys.get_mut(depth.saturating_sub(1)) {
                    *slot = u32::try_from(self.machine.keys).unwrap_or(u32::MAX);
                }
                self.machine.keys = 0;
                Some(depth.saturating_sub(1))
            }
            Event::ArrayStart => Some(depth.saturating_sub(1)),
            Event::Key | Event::Part => Some(depth),
            Event::ObjectEnd => {
                self.machine.keys = self.keys.get(depth).map_or(0, |keys| *keys as usize);
                None
            }
            Event::ArrayEnd | Event::Last | Event::Number | Event::True | Event::False | Event::Null => None,
        };
        if self.skips {
            if open.is_none() && self.open == Some(depth) {
                (self.skips, self.open, self.machine.wanted) = (false, None, true);
            }
            return false;
        }
        (self.open, self.depth, self.start) = (open, depth, self.machine.start());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // M-8
    #[test]
    fn its_state_is_small() {
        assert!(size_of::<Tokenizer>() <= 3 * 1024, "{}", size_of::<Tokenizer>());
    }
}
