//! In: the host names of a configuration, and those of its neighbours. Out: whether a request's authority belongs to it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// The host names that a configuration answers for (RFC 9110 §7.4): exact ones, and wildcards for one label (`*.example.com`).
///
/// Names compare without case and without port; a trailing dot makes another name. Where neighbours are known, the more exact name
/// wins: `a.example.com` of a neighbour is not for `*.example.com`. Cheap to clone.
///
/// ```
/// use vestibule::Names;
/// let names = Names::of(["example.com", "*.example.com"]).without(["admin.example.com"]);
/// assert!(names.serve("www.example.com:8443") && names.serve("EXAMPLE.com"));
/// assert!(!names.serve("admin.example.com") && !names.serve("a.b.example.com") && !names.serve(""));
/// assert!(Names::all().without(["admin.example.com"]).serve("anything.else"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(Arc<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    own: List,
    /// Names of other configurations.
    others: List,
    /// Whatever is nobody else's.
    all: bool,
}

/// Lower-case names, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct List {
    exact: Box<[Box<str>]>,
    /// What stands behind `*.`.
    wild: Box<[Box<str>]>,
}

impl Names {
    /// These names alone.
    pub fn of<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Names {
        Names(Arc::new(Parts { own: List::of(names), others: List::default(), all: false }))
    }

    /// Every name, and requests that name none: of a configuration that others fall back to.
    pub fn all() -> Names {
        Names(Arc::new(Parts { own: List::default(), others: List::default(), all: true }))
    }

    /// The same, but for what other configurations answer for.
    pub fn without<N: AsRef<str>>(self, others: impl IntoIterator<Item = N>) -> Names {
        let mut parts = Arc::unwrap_or_clone(self.0);
        parts.others = List::of(others);
        Names(Arc::new(parts))
    }

    /// Whether a request with this authority (host, and perhaps a port) is for this configuration.
    pub fn serve(&self, authority: &str) -> bool {
        let (host, parts) = (host_of(authority), &*self.0);
        let (own, others) = (parts.own.fits(host), parts.others.fits(host));
        match own {
            Fit::None => parts.all && others == Fit::None,
            own => own >= others,
        }
    }
}

/// How exactly a name fits.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    None,
    Wild,
    Exact,
}

impl List {
    fn of<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> List {
        let (mut exact, mut wild) = (Vec::new(), Vec::new());
        for name in names {
            let name = name.as_ref();
            match name.strip_prefix("*.") {
                Some(rest) => wild.push(lower(rest)),
                None => exact.push(lower(name)),
            }
        }
        for list in [&mut exact, &mut wild] {
            list.sort_unstable();
            list.dedup();
        }
        List { exact: exact.into(), wild: wild.into() }
    }

    fn fits(&self, host: &str) -> Fit {
        if holds(&self.exact, host) {
            return Fit::Exact;
        }
        // One label, which is not empty.
        match host.split_once('.') {
            Some((label, rest)) if !label.is_empty() && !host.starts_with('[') && holds(&self.wild, rest) => Fit::Wild,
            _ => Fit::None,
        }
    }
}

fn lower(name: &str) -> Box<str> {
    let mut name = String::from(name);
    name.make_ascii_lowercase();
    name.into_boxed_str()
}

fn holds(sorted: &[Box<str>], host: &str) -> bool {
    sorted.binary_search_by(|name| compare(name.as_bytes(), host.as_bytes())).is_ok()
}

/// A lower-case name against one of any case.
fn compare(name: &[u8], host: &[u8]) -> Ordering {
    name.iter().copied().cmp(host.iter().map(u8::to_ascii_lowercase))
}

/// The authority without its port: `[::1]:443` and `a:443`.
fn host_of(authority: &str) -> &str {
    let from = authority.rfind(']').unwrap_or(0);
    match authority.get(from..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => authority.get(..from + colon).unwrap_or(authority),
        None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_ports_case_and_addresses() {
        let names = Names::of(["A.example", "[::1]", "192.0.2.1"]);
        for inside in ["a.example", "a.EXAMPLE:443", "a.example:", "[::1]", "[::1]:8443", "192.0.2.1:80"] {
            assert!(names.serve(inside), "{inside}");
        }
        for outside in ["", "a.example.", "b.a.example", "example", "[::2]", "::1", "a.example.evil", ":443"] {
            assert!(!names.serve(outside), "{outside}");
        }
    }

    #[test]
    fn a_wildcard_is_one_label_that_is_not_empty() {
        let names = Names::of(["*.a.example"]);
        assert!(names.serve("x.a.example") && names.serve("X.A.example:1"));
        for outside in ["a.example", ".a.example", "y.x.a.example", "*", "xa.example"] {
            assert!(!names.serve(outside), "{outside}");
        }
    }

    #[test]
    fn the_more_exact_name_wins_whoever_has_it() {
        let wild = Names::of(["*.a.example"]).without(["b.a.example", "c.example"]);
        assert!(wild.serve("x.a.example") && !wild.serve("B.a.example") && !wild.serve("c.example"));
        let exact = Names::of(["b.a.example"]).without(["*.a.example"]);
        assert!(exact.serve("b.a.example") && !exact.serve("x.a.example"));
        let all = Names::all().without(["b.example", "*.a.example"]);
        assert!(all.serve("c.example") && all.serve("") && all.serve("a.example"));
        assert!(!all.serve("b.example:1") && !all.serve("x.a.example"));
        // Two that claim the same name: both may answer for it.
        assert!(Names::of(["b.example"]).without(["b.example"]).serve("b.example"));
    }

    #[test]
    fn thousands_of_names_are_found_by_halving() {
        let names = Names::of((0..5_000).map(|i| format!("n{i}.example")));
        assert!((0..5_000).all(|i| names.serve(&format!("N{i}.example"))));
        assert!(!names.serve("n5000.example"));
    }
}
