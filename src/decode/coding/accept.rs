//! In: the values of `Accept-Encoding`, and the codings that a server can send. Out: the one to send (RFC 9110 §12.5.3).

use super::Coding;

/// Known codings, in the order of [`Accept::weights`].
const KNOWN: [(&str, Coding); 6] = [
    ("identity", Coding::Identity),
    ("gzip", Coding::Gzip),
    ("x-gzip", Coding::Gzip),
    ("deflate", Coding::Deflate),
    ("br", Coding::Brotli),
    ("zstd", Coding::Zstd),
];

/// The codings that a client accepts, and how much it likes each: weights in thousandths, 0 forbids (RFC 9110 §12.4.2).
///
/// One pass over the values, no allocation; the answer is a copy. For a server that chooses once, [`negotiate`] is shorter.
///
/// ```
/// use vestibule::decode::coding::{Accept, Coding};
/// let accept = Accept::of([b"gzip;q=0.8, br".as_slice(), b"*;q=0"]);
/// assert_eq!(accept.weight(Coding::Gzip), Some(800));
/// assert_eq!(accept.weight(Coding::Deflate), Some(0));
/// assert_eq!(accept.choose(&[Coding::Gzip, Coding::Brotli]), Some(Coding::Brotli));
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Accept {
    /// By coding; `None`: not named.
    weights: [Option<u16>; 5],
    /// Of every coding that is not named.
    others: Option<u16>,
}

impl Accept {
    /// Reads the field's values, one for each line, in any order.
    ///
    /// A member that is no `codings [ weight ]` says nothing: it is passed over, and neither accepts nor forbids. Where a coding is named
    /// twice, `x-gzip` being `gzip`, the lower weight counts: what was forbidden once is not sent.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Accept {
        let mut accept = Accept::default();
        for value in values {
            for member in value.split(|&b| b == b',') {
                accept.member(member);
            }
        }
        accept
    }

    fn member(&mut self, member: &[u8]) {
        let mut parts = member.splitn(2, |&b| b == b';').map(trim);
        let name = parts.next().unwrap_or_default();
        let weight = match parts.next().map(weight) {
            None => 1_000,
            Some(Some(weight)) => weight,
            Some(None) => return,
        };
        let place = match name {
            b"*" => &mut self.others,
            name => {
                let known = KNOWN.iter().find(|k| name.eq_ignore_ascii_case(k.0.as_bytes()));
                let Some(place) = known.and_then(|k| self.weights.get_mut(place(k.1))) else { return };
                place
            }
        };
        *place = Some(place.map_or(weight, |before| before.min(weight)));
    }

    /// The weight of a coding in thousandths: as it is named, else that of `*`. `None`: nothing was said of it, which
    /// allows `identity` and no other.
    pub fn weight(&self, coding: Coding) -> Option<u16> {
        self.weights.get(place(coding)).copied().flatten().or(self.others)
    }

    /// The coding to send: the heaviest; of equally heavy ones the first of `offers`. What cannot be coded can always be sent as
    /// it is, so that [`Coding::Identity`] is on offer even if it is not listed, then as the last. Where nothing was said of `identity`, it is
    /// what is left when no other fits.
    ///
    /// `None`: everything on offer is forbidden, `identity` too. RFC 9110 §12.5.3 leaves it to the server then: 406, or
    /// disregard the field and send it as it is.
    pub fn choose(&self, offers: &[Coding]) -> Option<Coding> {
        self.among(offers.iter().copied())
    }

    pub(crate) fn among(&self, offers: impl Iterator<Item = Coding>) -> Option<Coding> {
        let mut best: Option<(u16, Coding)> = None;
        for coding in offers.chain([Coding::Identity]) {
            let weight = match (self.weight(coding), coding) {
                (Some(0), _) | (None, Coding::Gzip | Coding::Deflate | Coding::Brotli | Coding::Zstd) => continue,
                (Some(weight), _) => weight,
                (None, Coding::Identity) => 0,
            };
            if best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }
}

/// Chooses the coding of a response by the values of the request's `Accept-Encoding` lines, such as
/// [`Fields::all`](crate::Fields::all) gives. `offers` in the server's order of preference; see [`Accept::choose`]. No line at all gives
/// `identity`: RFC 9110 would allow any coding, but who says nothing often decodes nothing.
///
/// ```
/// use vestibule::decode::coding::{Coding, negotiate};
/// let stored = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
/// assert_eq!(negotiate([b"gzip, deflate, br".as_slice()], &stored), Some(Coding::Brotli));
/// assert_eq!(negotiate([b"identity;q=0".as_slice()], &stored), None);
/// assert_eq!(negotiate([], &stored), Some(Coding::Identity));
/// ```
pub fn negotiate<'a>(values: impl IntoIterator<Item = &'a [u8]>, offers: &[Coding]) -> Option<Coding> {
    Accept::of(values).choose(offers)
}

const fn place(coding: Coding) -> usize {
    match coding {
        Coding::Identity => 0,
        Coding::Gzip => 1,
        Coding::Deflate => 2,
        Coding::Brotli => 3,
        Coding::Zstd => 4,
    }
}

/// SP and HTAB alone are white space (RFC 9110 §5.6.3).
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// `q=` and a qvalue of at most three decimals, in thousandths (RFC 9110 §12.4.2).
fn weight(text: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', value @ ..] = text else { return None };
    let (&whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths =
        [100, 10, 1].into_iter().zip(decimals).map(|(by, &digit)| by * u16::from(digit - b'0')).sum::<u16>();
    let weight = u16::from(whole - b'0') * 1_000 + thousandths;
    (weight <= 1_000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::Coding::{Brotli, Deflate, Gzip, Identity, Zstd};
    use super::*;

    fn choose(lines: &[&str], offers: &[Coding]) -> Option<Coding> {
        negotiate(lines.iter().map(|line| line.as_bytes()), offers)
    }

    #[test]
    fn the_heaviest_coding_on_offer_is_chosen_and_the_servers_order_breaks_ties() {
        let all: &[Coding] = &[Zstd, Brotli, Gzip, Deflate];
        let table: &[(&[&str], &[Coding], Option<Coding>)] = &[
            // Nothing said, and nothing wanted.
            (&[], all, Some(Identity)),
            (&[""], all, Some(Identity)),
            (&[" , ,"], all, Some(Identity)),
            (&["identity"], all, Some(Identity)),
            // What browsers and tools send.
            (&["gzip, deflate, br, zstd"], all, Some(Zstd)),
            (&["gzip, deflate, br"], all, Some(Brotli)),
            (&["gzip, deflate"], all, Some(Gzip)),
            (&["deflate, gzip"], all, Some(Gzip)),
            (&["deflate, gzip"], &[Deflate, Gzip], Some(Deflate)),
            (&["X-GZIP"], all, Some(Gzip)),
            (&["compress"], all, Some(Identity)),
            // Weights.
            (&["gzip;q=1.0, br;q=0.5"], all, Some(Gzip)),
            (&["gzip;q=0.501, br;q=0.5"], all, Some(Gzip)),
            (&["gzip;q=0.001"], all, Some(Gzip)),
            (&["gzip ; q=0.2 , br\t;\tQ=0.3"], all, Some(Brotli)),
            (&["gzip;q=0"], all, Some(Identity)),
            (&["gzip;q=0.0, br;q=0.000"], all, Some(Identity)),
            (&["gzip;q=0.5, identity"], all, Some(Identity)),
            (&["gzip, identity"], all, Some(Gzip)),
            (&["gzip, identity"], &[Identity, Gzip], Some(Identity)),
            (&["gzip;q=0.5, identity;q=0.4"], all, Some(Gzip)),
            // The star stands for what is not named, `identity` included.
            (&["*"], all, Some(Zstd)),
            (&["*"], &[], Some(Identity)),
            (&["zstd;q=0, *"], all, Some(Brotli)),
            (&["gzip;q=0.5, *"], &[Gzip], Some(Identity)),
            (&["gzip;q=0.5, *;q=0.1"], all, Some(Gzip)),
            (&["*;q=0"], all, None),
            (&["*;q=0, identity"], all, Some(Identity)),
            (&["*;q=0, identity;q=0.1, gzip"], all, Some(Gzip)),
            (&["identity;q=0"], all, None),
            (&["identity;q=0, *;q=0.5"], &[Gzip], Some(Gzip)),
            (&["identity;q=0, br"], &[Gzip], None),
            (&["br;q=0, identity;q=0"], &[Brotli], None),
            // Several lines are one list; who is named twice has the lower weight.
            (&["br;q=0.1", "gzip;q=0.2"], all, Some(Gzip)),
            (&["gzip", "gzip;q=0"], all, Some(Identity)),
            (&["x-gzip;q=0, gzip"], all, Some(Identity)),
            (&["br", "", "*;q=0"], all, Some(Brotli)),
        ];
        for (lines, offers, chosen) in table {
            assert_eq!(choose(lines, offers), *chosen, "{lines:?} of {offers:?}");
        }
    }

    #[test]
    fn a_malformed_member_says_nothing() {
        for member in [
            "gzip;",
            "gzip;q",
            "gzip;q=",
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.0001",
            "gzip;q=-1",
            "gzip;q=.5",
            "gzip;q=00",
            "gzip;q=1,5",
            "gzip;q =1",
            "gzip;q= 1",
            "gzip;level=9",
            "gzip;q=1;q=0",
            "gz ip",
            "g\u{e9}",
            ";q=1",
            "gzip q=0",
        ] {
            // `q=1,5` is a good member and a coding named 5.
            let alone = if member == "gzip;q=1,5" { Some(Gzip) } else { Some(Identity) };
            assert_eq!(choose(&[member], &[Gzip]), alone, "{member:?}");
            assert_eq!(choose(&[member, "br"], &[Brotli]), Some(Brotli), "{member:?}");
        }
        assert_eq!(choose(&["gzip;q=x", "gzip"], &[Gzip]), Some(Gzip), "it does not forbid, either");
    }

    #[test]
    fn weights_have_three_decimals() {
        for thousandths in 0..=1_000u16 {
            let text = format!("q={}.{:03}", thousandths / 1_000, thousandths % 1_000);
            assert_eq!(weight(text.as_bytes()), Some(thousandths), "{text}");
        }
        assert_eq!((weight(b"q=1."), weight(b"q=0."), weight(b"q=0.7")), (Some(1_000), Some(0), Some(700)));
    }

    #[test]
    fn any_bytes_give_an_answer_and_forbidden_codings_are_never_chosen() {
        let all = [Zstd, Brotli, Gzip, Deflate];
        let alphabet = b"gzip;q=01.,*br \t\xff";
        let mut dice = 1u32;
        for _ in 0..20_000 {
            let mut value = [0u8; 14];
            for byte in &mut value {
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = alphabet[(dice >> 16) as usize % alphabet.len()];
            }
            let accept = Accept::of([&value[..]]);
            match accept.choose(&all) {
                Some(chosen) => assert_ne!(accept.weight(chosen), Some(0), "{}", value.escape_ascii()),
                None => assert_eq!(accept.weight(Identity), Some(0), "{}", value.escape_ascii()),
            }
        }
    }
}
