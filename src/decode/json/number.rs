//! In: the bytes of a number, one after the other. Out: whether they go on being one by RFC 8259 §6, and whether an `f64`
//! can hold it.

/// How much of the grammar of a number has come: `-? int frac? exp?`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    Start,
    Minus,
    /// A zero, behind which no digit may stand.
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

/// What the next byte makes of a number.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Goes(Shape),
    /// The number was complete before it.
    Ends,
    /// Neither may be.
    Wrong,
}

impl Shape {
    #[inline(always)]
    pub(super) const fn next(self, byte: u8) -> Next {
        use Shape::*;
        Next::Goes(match (self, byte) {
            (Start, b'-') => Minus,
            (Start | Minus, b'0') => Zero,
            (Start | Minus, b'1'..=b'9') | (Integer, b'0'..=b'9') => Integer,
            (Zero | Integer, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Integer | Fraction, b'e' | b'E') => Exponent,
            (Exponent, b'+' | b'-') => Sign,
            (Exponent | Sign | Power, b'0'..=b'9') => Power,
            (Zero, b'0'..=b'9') => return Next::Wrong,
            _ if self.is_complete() => return Next::Ends,
            _ => return Next::Wrong,
        })
    }

    /// Whether this is a number already.
    pub(super) const fn is_complete(self) -> bool {
        matches!(self, Shape::Zero | Shape::Integer | Shape::Fraction | Shape::Power)
    }

    /// Takes what continues the number from the front of `bytes`; says how many those are.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest
            && let Next::Goes(next) = self.next(*byte)
        {
            (*self, rest) = (next, after);
            // Behind a digit others change nothing.
            if matches!(next, Shape::Integer | Shape::Fraction | Shape::Power) {
                while let [b'0'..=b'9', after @ ..] = rest {
                    rest = after;
                }
            }
        }
        bytes.len() - rest.len()
    }
}

/// 2^1024 - 2^970, halfway between the greatest `f64` and what would come after it: from here on a number becomes infinite.
pub(super) const INFINITE: &[u8; 309] =
    b"1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070963\
    3028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447573027\
    0069855571366959622842914819860834936475292719074168444365510704342711559699508093042880177904174497792";

/// Whether a number that is one by the grammar would become infinite as an `f64`.
///
/// Decided by the place of its first digit and, if that is the greatest there can be, digit by digit; numbers near the
/// border are dear to convert, and a text could hold many of them.
pub(super) fn is_infinite(number: &[u8]) -> bool {
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let is_e = |b: &u8| matches!(b, b'e' | b'E');
    let mut halves = number.split(is_e);
    let mantissa = halves.next().unwrap_or_default();
    let exponent = halves.next().map_or(0, power);
    let whole_digits = mantissa.iter().take_while(|b| b.is_ascii_digit()).count();
    if exponent <= 0 && whole_digits < INFINITE.len() {
        return false;
    }
    let Some(first) = mantissa.iter().position(|b| matches!(b, b'1'..=b'9')) else { return false };
    let place = match whole_digits.checked_sub(first + 1) {
        Some(place) => place as i64,
        // Behind the point, which takes a place itself.
        None => -(first.saturating_sub(whole_digits) as i64),
    };
    let digits = mantissa.iter().skip(first).filter(|b| **b != b'.').chain(core::iter::repeat(&b'0'));
    match place.saturating_add(exponent) {
        ..308 => false,
        309.. => true,
        308 => digits.take(INFINITE.len()).ge(INFINITE),
    }
}

/// An exponent, signed or not.
fn power(text: &[u8]) -> i64 {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let value = digits.iter().fold(0i64, |n, b| n.saturating_mul(10).saturating_add(i64::from(b.saturating_sub(b'0'))));
    value.saturating_mul(sign)
}
