//! `application/x-www-form-urlencoded` (WHATWG URL §5.1): forms cut anywhere, damaged anywhere, against their limits,
//! and against the standard's own algorithm in another crate. The reader in pieces and the one of whole forms must
//! always agree.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use vestibule::decode::form::{Form, Item, from_slice, pairs};
use vestibule::{Limit, Limits, Rule, Violation};

type Pairs = Vec<(String, String)>;

/// What was told, and how it ended. A pair whose end was not told is there with what came of it.
type Outcome = (Pairs, Result<(), Violation>);

fn read_with(limits: &Limits, scratch: usize, pieces: &[&[u8]]) -> Outcome {
    let mut form = Form::new(vec![0; scratch]);
    let mut told = Told::default();
    let mut outcome = Ok(());
    for piece in pieces {
        let mut rest = *piece;
        outcome = told.take(|| form.next(&mut rest, limits).map(|item| item.map(Own::from)));
        if outcome.is_err() {
            break;
        }
        assert!(rest.is_empty(), "what is not used up is asked for again");
    }
    if outcome.is_ok() {
        outcome = told.take(|| form.finish().map(|item| item.map(Own::from)));
    }
    match outcome {
        Ok(()) => {
            assert!(!told.open);
            assert_eq!(form.finish(), Ok(None), "it stays ended");
            assert_eq!(form.next(&mut &b""[..], limits), Ok(None));
        }
        Err(violation) => {
            assert_eq!(form.next(&mut &b"a=b"[..], limits), Err(violation), "it stays broken");
            assert_eq!(form.finish(), Err(violation));
        }
    }
    (told.pairs, outcome)
}

/// An item that nothing is lent for.
enum Own {
    Name(String),
    Value(String),
    PairEnd,
}

impl From<Item<'_>> for Own {
    fn from(item: Item<'_>) -> Own {
        match item {
            Item::Name(name) => Own::Name(name.into()),
            Item::Value(part) => Own::Value(part.into()),
            Item::PairEnd => Own::PairEnd,
        }
    }
}

#[derive(Default)]
struct Told {
    pairs: Pairs,
    open: bool,
}

impl Told {
    /// Takes items until there is none.
    fn take(&mut self, mut next: impl FnMut() -> Result<Option<Own>, Violation>) -> Result<(), Violation> {
        while let Some(item) = next()? {
            match item {
                Own::Name(name) => {
                    assert!(!std::mem::replace(&mut self.open, true));
                    self.pairs.push((name, String::new()));
                }
                Own::Value(part) => {
                    assert!(self.open && !part.is_empty());
                    self.pairs.last_mut().unwrap().1.push_str(&part);
                }
                Own::PairEnd => assert!(std::mem::replace(&mut self.open, false)),
            }
        }
        Ok(())
    }
}

/// Reads a form whole, by each one to five bytes, and cut once anywhere, with little memory and much; it must be told
/// the same.
fn read_split(limits: &Limits, form: &[u8]) -> Outcome {
    let whole = read_with(limits, 4_096, &[form]);
    for size in 1..6 {
        let pieces: Vec<_> = form.chunks(size).collect();
        assert_eq!(read_with(limits, 4_096, &pieces), whole, "{size} at a time");
    }
    for cut in 0..=form.len() {
        let (front, back) = form.split_at(cut);
        assert_eq!(read_with(limits, 4_096, &[front, back]), whole, "cut at {cut}");
        assert_eq!(read_with(limits, 64, &[front, back]), whole, "cut at {cut}, in 64 bytes");
    }
    whole
}

/// The same by [`pairs`]: it has no limits, and tells a bad pair not even in part.
fn by_pairs(form: &[u8]) -> Outcome {
    let (mut told, mut end) = (Pairs::new(), Ok(()));
    for pair in pairs(form) {
        match pair {
            Ok((name, value)) => told.push((name.to_string(), value.to_string())),
            Err(violation) => end = Err(violation),
        }
    }
    (told, end)
}

const FORMS: [&[u8]; 8] = [
    b"",
    b"name=Jo%C3%A3o+da+Silva&mail=a%40example.com&text=line+1%0D%0Aline+2&box=on&none=",
    b"&&a=1&b&=c&=&a==&",
    b"%F0%9F%8D%B5=%F0%9f%8d%b5%e2%82%ac+%00&\xf0\x9f\x8d\xb5=\xe2\x82\xac%C3\xa9",
    b"a=%&b=1",
    b"a=1&b=xy%C3%28z",
    b"na\xffme=1",
    b"a=text%F0%9F%8D",
];

#[test]
fn both_readers_tell_the_same_however_a_form_is_cut() {
    for form in FORMS {
        let (told, end) = read_split(&Limits::DEFAULT, form);
        let (whole, whole_end) = by_pairs(form);
        assert_eq!(end, whole_end, "{}", form.escape_ascii());
        assert!(told.starts_with(&whole) && told.len() <= whole.len() + usize::from(end.is_err()));
        for length in 0..form.len() {
            let (_, end) = read_split(&Limits::DEFAULT, &form[..length]);
            assert_eq!(end, by_pairs(&form[..length]).1, "its first {length} bytes");
        }
    }
    let (told, end) = read_split(&Limits::DEFAULT, b"a=text%F0%9F%8Dx");
    assert_eq!(told, [("a".to_string(), "text".to_string())], "what was good is told, but half a character");
    assert_eq!(end, Err(Violation::new(Rule::Utf8, 15)));
}

#[test]
fn whatever_bit_is_flipped_both_readers_agree() {
    for form in FORMS {
        for bit in 0..form.len() * 8 {
            let mut form = form.to_vec();
            form[bit / 8] ^= 1 << (bit % 8);
            let whole = read_with(&Limits::DEFAULT, 4_096, &[&form]);
            let pieces: Vec<_> = form.chunks(1).collect();
            assert_eq!(read_with(&Limits::DEFAULT, 64, &pieces), whole);
            assert_eq!(by_pairs(&form).1, whole.1, "{}", form.escape_ascii());
        }
    }
}

#[test]
fn limits_end_at_the_first_byte_or_escape_beyond_them() {
    let value = |n: usize| format!("a={}&b=1", "%C3%A9+x".repeat(n / 4) + &"y".repeat(n % 4));
    let name = |n: usize| format!("{}=1", "%6E".repeat(n));
    let fields = |n: usize| "a&&b=1&".repeat(n / 2) + if n % 2 == 1 { "c" } else { "" };
    type Row<'a> = (Limit, u64, Rule, &'a dyn Fn(usize) -> String, usize);
    let rows: [Row<'_>; 3] = [
        (Limit::FormValueBytes, 20, Rule::FormValueTooLong, &value, 2 + 5 * 8),
        (Limit::FormNameBytes, 20, Rule::FormNameTooLong, &name, 60),
        (Limit::FormFields, 20, Rule::FormTooManyFields, &fields, 70),
    ];
    for (limit, most, rule, form, at) in rows {
        let limits = Limits::DEFAULT.with(limit, most).unwrap();
        let typed =
            |form: &str| from_slice::<Pairs>(form.as_bytes(), &limits, &mut vec![0; 4 * form.len() + 4]).map(|_| ());
        for n in [19, 20] {
            assert_eq!(read_split(&limits, form(n).as_bytes()).1, Ok(()), "{limit:?} with {n}");
            assert_eq!(typed(&form(n)), Ok(()));
        }
        let fault = Err(Violation { rule, at: at as u64, value: most });
        assert_eq!(read_split(&limits, form(21).as_bytes()).1, fault, "{limit:?}");
        assert_eq!(typed(&form(21)), fault, "{limit:?}, typed");
    }
    let limits = Limits::DEFAULT.with(Limit::FormValueBytes, 20).unwrap();
    assert_eq!(
        read_split(&limits, b"a=0123456789012345678901").0[0].1,
        "01234567890123456789",
        "what is allowed is told"
    );
}

#[test]
fn memory_is_the_only_room_and_its_size_decides_alone() {
    let form = b"four=%F0%9F%8D%B5%F0%9F%8D%B5";
    for room in 0..8 {
        for size in [1, 2, form.len()] {
            let pieces: Vec<_> = form.chunks(size).collect();
            let expected = match room {
                0..4 => Err(Violation { rule: Rule::BodyOverHandler, at: room, value: room }),
                _ => Ok(()),
            };
            assert_eq!(read_with(&Limits::DEFAULT, room as usize, &pieces).1, expected, "{room}");
        }
    }
    // A character that does not fit is no reason to turn round for ever.
    let short = read_with(&Limits::DEFAULT, 3, &[b"a=xy%F0%9F%8D%B5"]);
    assert_eq!(short.1, Err(Violation { rule: Rule::BodyOverHandler, at: 15, value: 3 }));
    assert!(size_of::<Form<()>>() <= 128, "{}", size_of::<Form<()>>());
}

/// A query is a form whose length the request line bounds.
#[test]
fn a_query_is_read_as_a_form_is() {
    use vestibule::{Config, Connection, Inbox, Outbox};
    static CONFIG: Config = Config::new(Limits::DEFAULT);
    let now = vestibule::Instant::from_millis(0);
    let mut connection = Connection::new(&CONFIG, now);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 65_536]), Outbox::new(vec![0; 65_536]));
    inbox.fill(b"GET /find?tag=b&q=t%C3%A9+x&tag=a HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut turn = connection.turn(now, &mut inbox, &mut outbox).unwrap();
    let request = std::iter::from_fn(|| {
        turn.next().map(|event| match event {
            vestibule::Event::Request(request) => {
                let query = request.head.query().unwrap_or_default().as_bytes();
                Some((by_pairs(query).0, from_slice::<Found>(query, &Limits::DEFAULT, &mut [0; 256])))
            }
            _ => None,
        })
    })
    .flatten()
    .next()
    .unwrap();
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    assert_eq!(request.0, [pair("tag", "b"), pair("q", "té x"), pair("tag", "a")]);
    assert_eq!(request.1, Ok(Found { q: "té x".into(), tag: vec!["b".into(), "a".into()] }));
}

#[derive(serde::Deserialize, PartialEq, Debug)]
struct Found {
    q: String,
    tag: Vec<String>,
}

/// Many fields of one name, of names that are alike to their last byte, and beside long values, cost as much as others.
#[test]
fn work_is_linear_in_the_form() {
    let limits = Limits::DEFAULT.with(Limit::FormFields, 1_000_000).unwrap();
    let long = "n".repeat(1_000);
    let forms = [
        "a=1&".repeat(500_000),
        (0..200_000).map(|i| format!("n{}=1&", i * 7_919 % 200_000)).collect(),
        (0..2_000).map(|i| format!("{long}{}=1&", i * 7_919 % 2_000)).collect(),
        "&".repeat(2_000_000),
        "%61".repeat(300) + "=" + &"%C3%A9".repeat(10_000),
        "n=".to_string() + &"v".repeat(65_536) + &"&n=1".repeat(200_000),
        (0..200_000).map(|i| format!("{i}={}&", "v".repeat(if i % 10_000 == 0 { 65_536 } else { 1 }))).collect(),
    ];
    for form in forms {
        let begun = Instant::now();
        let whole = read_with(&limits, 2_048, &[form.as_bytes()]);
        let pieces: Vec<_> = form.as_bytes().chunks(1).collect();
        assert_eq!(read_with(&limits, 2_048, &pieces), whole);
        let mut scratch = vec![0; 4 * form.len() + 4];
        let sorting = Instant::now();
        let sorted: std::collections::BTreeMap<String, Vec<String>> =
            from_slice(form.as_bytes(), &limits, &mut scratch).unwrap();
        assert!(sorting.elapsed() < Duration::from_secs(4), "{:?}", sorting.elapsed());
        assert_eq!(sorted.values().map(Vec::len).sum::<usize>(), whole.0.len());
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

/// What the crate of the standard's authors makes of it. It replaces what is not UTF-8 and passes on what is no escape.
fn by_the_standard(form: &[u8]) -> Pairs {
    form_urlencoded::parse(form).into_owned().collect()
}

fn cases(cases: u32) -> ProptestConfig {
    let hunt = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let rng_seed = proptest::test_runner::RngSeed::Fixed(7);
    if hunt { default } else { ProptestConfig { cases, rng_seed, ..default } }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_the_standard_writes_is_read(
        told in prop::collection::vec((any::<String>(), any::<String>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&told).finish();
        let (front, back) = form.as_bytes().split_at(cut.index(form.len() + 1));
        prop_assert_eq!(read_with(&Limits::DEFAULT, 4_096, &[front, back]), (told.clone(), Ok(())));
        prop_assert_eq!(by_pairs(form.as_bytes()), (told.clone(), Ok(())));
        let typed: Pairs = from_slice(form.as_bytes(), &Limits::DEFAULT, &mut vec![0; 3 * form.len() + 4]).unwrap();
        prop_assert_eq!(typed, told);
    }

    /// Whatever we take, the standard reads the same; and what it takes without repairing, we take.
    #[test]
    fn what_is_taken_the_standard_reads_the_same(
        parts in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![&b"&"[..], b"=", b"+", b"%", b"%2", b"%20", b"%C3%A9", b"%c3", b"\xc3\xa9", b";", b"a", b"%00", b"seven%20", b"sixteen+bytes==="])
                .prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..4),
        ], 0..20),
        sizes in 1..6usize,
    ) {
        let form = parts.concat();
        let whole = read_with(&Limits::DEFAULT, 4_096, &[&form]);
        let pieces: Vec<_> = form.chunks(sizes).collect();
        prop_assert_eq!(&read_with(&Limits::DEFAULT, 64, &pieces), &whole);
        prop_assert_eq!(by_pairs(&form).1, whole.1);
        // Near a limit they agree on what is wrong first.
        let close = [(Limit::FormFields, 3), (Limit::FormNameBytes, 16), (Limit::FormValueBytes, 16)];
        let close = close.into_iter().fold(Limits::DEFAULT, |limits, (limit, most)| limits.with(limit, most).unwrap());
        let typed = from_slice::<Pairs>(&form, &close, &mut vec![0; 3 * form.len() + 4]).map(|_| ());
        prop_assert_eq!(typed, read_with(&close, 64, &pieces).1);
        let theirs = by_the_standard(&form);
        match whole.1 {
            Ok(()) => prop_assert_eq!(&whole.0, &theirs),
            Err(_) => {
                let repaired = theirs.iter().any(|(n, v)| [n, v].iter().any(|t| t.contains(['\u{fffd}', '%'])));
                prop_assert!(repaired, "it was good: {}", form.escape_ascii());
            }
        }
    }
}
