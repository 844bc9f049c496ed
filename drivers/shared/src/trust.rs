//! In: a list such as `10.0.0.0/8, 2001:db8::/32, unix`, then a connection's source. Out: whether its PROXY header is believed.
//!
//! A header of the PROXY protocol says who a peer is. Whoever may send one may therefore be anybody: it is read from these
//! sources alone, and from them always.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Sources whose PROXY header is believed. Empty (the default): nobody's.
///
/// ```
/// use vestibule_driver::trust::Trust;
///
/// let trust: Trust = "10.0.0.0/8, 192.0.2.7, 2001:db8::/32".parse()?;
/// assert!(trust.holds([10, 1, 2, 3].into()));
/// assert!(trust.holds("::ffff:10.1.2.3".parse()?), "the same address, on a socket of IPv6");
/// assert!(!trust.holds([192, 0, 2, 8].into()) && !trust.holds_unix());
/// assert!("10.0.0.1/8".parse::<Trust>().is_err(), "an address, or a prefix?");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Trust {
    prefixes: Vec<Prefix>,
    unix: bool,
}

impl Trust {
    /// Nobody.
    pub const fn nobody() -> Trust {
        Trust { prefixes: Vec::new(), unix: false }
    }

    /// This prefix, too.
    pub fn and(mut self, prefix: impl Into<Prefix>) -> Trust {
        self.prefixes.push(prefix.into());
        self
    }

    /// Whoever connects to a Unix socket, too: its file's permissions say who may.
    pub fn and_unix(mut self) -> Trust {
        self.unix = true;
        self
    }

    /// Whether a header from this address is believed.
    pub fn holds(&self, source: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.holds(source))
    }

    /// Whether a header from a Unix socket is believed.
    pub fn holds_unix(&self) -> bool {
        self.unix
    }

    /// Whether nobody is trusted: then no header is looked for.
    pub fn is_nobody(&self) -> bool {
        self.prefixes.is_empty() && !self.unix
    }
}

impl FromStr for Trust {
    type Err = TrustError;

    /// Addresses and prefixes, and `unix`, with commas or blanks between them.
    fn from_str(list: &str) -> Result<Trust, TrustError> {
        let mut trust = Trust::nobody();
        for item in list.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|item| !item.is_empty()) {
            match item {
                "unix" => trust.unix = true,
                _ => trust.prefixes.push(item.parse()?),
            }
        }
        Ok(trust)
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for prefix in &self.prefixes {
            write!(f, "{between}{prefix}")?;
            between = ", ";
        }
        if self.unix {
            write!(f, "{between}unix")?;
        }
        Ok(())
    }
}

/// The addresses that begin with the same bits (RFC 4632 §3.1, RFC 4291 §2.3). One of IPv4 holds the IPv4-mapped addresses of
/// IPv6 (RFC 4291 §2.5.5.2) as well, since a socket that listens on `[::]` reports IPv4 peers by those.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    first: IpAddr,
    bits: u8,
}

impl Prefix {
    /// The addresses that have the first `bits` bits of `first`.
    ///
    /// # Errors
    /// More bits than an address has, or `first` has bits beyond the prefix: then either the address or the length is a mistake.
    pub fn new(first: IpAddr, bits: u8) -> Result<Prefix, TrustError> {
        let (first, bits) = match first.to_canonical() {
            // All of what is mapped is behind these 96 bits; a shorter prefix holds more than IPv4.
            IpAddr::V4(mapped) if first.is_ipv6() && bits >= MAPPED_BITS => (IpAddr::V4(mapped), bits - MAPPED_BITS),
            _ => (first, bits),
        };
        let error = |what| Err(TrustError { item: format!("{first}/{bits}"), what });
        if bits > length(first) {
            return error("an address has fewer bits");
        }
        if number(first) & !mask(first, bits) != 0 {
            return error("the address has bits beyond the prefix");
        }
        Ok(Prefix { first, bits })
    }

    /// Whether an address is one of these.
    pub fn holds(&self, address: IpAddr) -> bool {
        let same = |address: IpAddr| number(address) & mask(self.first, self.bits) == number(self.first);
        match (self.first, address) {
            (IpAddr::V4(_), _) => {
                let address = address.to_canonical();
                address.is_ipv4() && same(address)
            }
            (IpAddr::V6(_), IpAddr::V6(_)) => same(address),
            // `::/0` and the like hold the mapped addresses, so they hold what is mapped.
            (IpAddr::V6(_), IpAddr::V4(address)) => same(IpAddr::V6(address.to_ipv6_mapped())),
        }
    }
}

const MAPPED_BITS: u8 = 96;

const fn length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// An address as a number of its own length.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The first `bits` bits of an address's length.
fn mask(address: IpAddr, bits: u8) -> u128 {
    let length = length(address);
    let all = u128::MAX >> (128 - u32::from(length));
    let rest = u32::from(length.saturating_sub(bits));
    all & u128::MAX.checked_shl(rest).unwrap_or(0)
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Prefix {
        let first = address.to_canonical();
        Prefix { first, bits: length(first) }
    }
}

impl From<SocketAddr> for Prefix {
    /// The address without its port.
    fn from(address: SocketAddr) -> Prefix {
        Prefix::from(address.ip())
    }
}

impl FromStr for Prefix {
    type Err = TrustError;

    /// `192.0.2.1`, `10.0.0.0/8`, `2001:db8::/32`.
    fn from_str(item: &str) -> Result<Prefix, TrustError> {
        let error = |what| TrustError { item: item.chars().take(64).collect(), what };
        let (address, bits) = match item.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (item, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error("not an IP address"))?;
        let Some(bits) = bits else { return Ok(Prefix::from(address)) };
        // `parse` would take a sign.
        let digits = (1..=3).contains(&bits.len()) && bits.bytes().all(|b| b.is_ascii_digit());
        let bits = bits.parse().ok().filter(|_| digits).ok_or_else(|| error("not a number of bits"))?;
        Prefix::new(address, bits).map_err(|e| error(e.what))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits == length(self.first) {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}/{}", self.first, self.bits),
        }
    }
}

/// What is wrong with a list of trusted sources.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustError {
    item: String,
    what: &'static str,
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trusted source {:?}: {}", self.item, self.what)
    }
}

impl std::error::Error for TrustError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trust(list: &str) -> Trust {
        list.parse().expect("a list")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_stands_for_itself_and_a_prefix_for_all_behind_it() {
        let trust = trust("192.0.2.1,10.0.0.0/8 2001:db8::/33\n203.0.113.128/25");
        for yes in ["192.0.2.1", "10.0.0.0", "10.255.255.255", "2001:db8:7fff::1", "203.0.113.128", "203.0.113.255"] {
            assert!(trust.holds(ip(yes)), "{yes}");
        }
        for no in ["192.0.2.2", "11.0.0.0", "9.255.255.255", "2001:db8:8000::", "203.0.113.127", "::1"] {
            assert!(!trust.holds(ip(no)), "{no}");
        }
        assert!(!trust.holds_unix());
    }

    #[test]
    fn an_ipv4_address_and_its_mapped_form_are_one() {
        assert!(trust("10.0.0.0/8").holds(ip("::ffff:10.1.1.1")));
        assert!(trust("::ffff:10.0.0.0/104").holds(ip("10.1.1.1")));
        assert!(trust("::ffff:10.1.1.1").holds(ip("10.1.1.1")));
        assert!(trust("::/0").holds(ip("10.1.1.1")), "mapped addresses are behind it");
        assert!(trust("::ffff:0:0/96").holds(ip("10.1.1.1")), "all of IPv4");
        assert!(!trust("::ffff:0:0/96").holds(ip("2001:db8::1")));
        assert!(!trust("10.0.0.0/8").holds(ip("::10.1.1.1")), "that is another address");
        assert!(!trust("0.0.0.0/0").holds(ip("2001:db8::1")));
    }

    #[test]
    fn nobody_is_trusted_until_somebody_is_named() {
        assert!(trust("").is_nobody() && trust(" , ").is_nobody() && Trust::default().is_nobody());
        let unix = trust("unix");
        assert!(unix.holds_unix() && !unix.is_nobody() && !unix.holds(ip("127.0.0.1")));
        let built = Trust::nobody().and(ip("192.0.2.1")).and_unix();
        assert_eq!(built, trust("unix,192.0.2.1"));
        assert_eq!(trust("10.0.0.0/8, 192.0.2.1, unix").to_string(), "10.0.0.0/8, 192.0.2.1, unix");
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_item() {
        for (list, what) in [
            ("10.0.0.0/33", "fewer bits"),
            ("::/129", "fewer bits"),
            ("::ffff:10.0.0.0/129", "fewer bits"),
            ("10.0.0.1/8", "beyond"),
            ("2001:db8::1/64", "beyond"),
            ("10.0.0.0/+8", "number"),
            ("10.0.0.0/", "number"),
            ("10.0.0.0/0008", "number"),
            ("10.0.0.0/999", "number"),
            ("10.0.0", "IP address"),
            ("localhost", "IP address"),
            ("UNIX", "IP address"),
        ] {
            let error = list.parse::<Trust>().expect_err(list).to_string();
            assert!(error.contains(what) && error.contains(list), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[test]
        fn a_prefix_holds_exactly_what_begins_like_it(first: u32, other: u32, bits in 0u8..=32) {
            let begin = |n: u32| n.checked_shr(32 - u32::from(bits)).unwrap_or(0);
            let first = begin(first).checked_shl(32 - u32::from(bits)).unwrap_or(0);
            let prefix = Prefix::new(IpAddr::V4(first.into()), bits).expect("no bits beyond");
            prop_assert_eq!(prefix.holds(IpAddr::V4(other.into())), begin(first) == begin(other));
            prop_assert!(prefix.holds(IpAddr::V4(first.into())));
            prop_assert_eq!(prefix.to_string().parse::<Prefix>().expect("its own text"), prefix);
        }

        #[test]
        fn no_text_makes_it_panic(list in "[0-9a-fA-F:./ ,unix]{0,40}") {
            if let Ok(trust) = list.parse::<Trust>() {
                prop_assert_eq!(trust.to_string().parse::<Trust>().expect("its own text"), trust);
            }
        }
    }
}
