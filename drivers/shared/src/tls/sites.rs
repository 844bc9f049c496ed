//! In: sites, and a client that calls one. Out: the configuration for it, as it is now.
//!
//! ```text
//!   ClientHello: SNI  --> exact name --> wildcard --> default --> none: unrecognized_name
//!                ALPN --> among those: the first that speaks one of the client's protocols, else the first
//! ```

use super::{Pem, Site, Tickets, TlsError};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use vestibule::Names;
use vestibule::decrypt::TlsConfig;

/// The sites of a TLS port: which configuration a client gets is decided by its ClientHello, and what the configurations are can be changed while
/// connections are open. Cheap to clone; all clones are the same sites.
///
/// Each site answers for its own names alone: a request for a host of another one gets 421 (RFC 9110 §7.4), so that a connection is no way around
/// another site's policy for client certificates. The default one answers for every name that no other has. Tickets share their keys, but none
/// resumes at another site, or after the roots of the site's clients have changed.
///
/// ```no_run
/// use vestibule_driver::tls::{Site, Sites};
/// # fn sites() -> Result<(), Box<dyn std::error::Error>> {
/// let sites = Sites::builder()
///     .site(Site::from_files("www.pem", "www.key").names(["example.com", "www.example.com"]))
///     .site(Site::from_files("admin.pem", "admin.key").names(["admin.example.com"]).require_clients_of_file("staff.pem"))
///     .default_site(Site::from_files("other.pem", "other.key"))
///     .build()?;
/// // builder.https(address, sites.clone()) ...
/// sites.reload()?; // the files are new
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sites(Arc<Inner>);

struct Inner {
    /// What the sites are made from. Whoever holds it may put a new table in place.
    plan: Mutex<Plan>,
    table: RwLock<Arc<Table>>,
}

#[derive(Clone)]
struct Plan {
    sites: Vec<Site>,
    default: Option<usize>,
    tickets: Tickets,
}

/// The configurations in force.
struct Table {
    sites: Vec<Made>,
    /// By names in lower case.
    exact: HashMap<String, Vec<usize>>,
    /// By what stands behind `*.`.
    wild: HashMap<String, Vec<usize>>,
    default: Option<usize>,
    /// The default one, or else any: it is asked about, and never used.
    fallback: TlsConfig,
}

struct Made {
    alpn: Vec<Vec<u8>>,
    config: TlsConfig,
}

/// The choices of [`Sites`].
#[derive(Debug, Default)]
pub struct SitesBuilder {
    sites: Vec<Site>,
    default: Option<usize>,
    tickets: Option<Tickets>,
}

/// Why sites could not be made or made anew; those that were in force stay so.
#[derive(Debug)]
pub struct SiteError {
    /// The first name of the site, or `default`.
    pub site: String,
    /// What is wrong with it.
    pub error: TlsError,
}

impl fmt::Display for SiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site {}: {}", self.site, self.error)
    }
}

impl std::error::Error for SiteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl fmt::Debug for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0.plan.lock().unwrap_or_else(PoisonError::into_inner).sites).finish()
    }
}

impl SitesBuilder {
    /// Another site. Among those with the same name, the first that speaks one of the client's protocols is chosen.
    pub fn site(mut self, site: Site) -> SitesBuilder {
        self.sites.push(site);
        self
    }

    /// The site of clients that call no name, or one that no other has. Without one they get the alert unrecognized_name.
    pub fn default_site(mut self, site: Site) -> SitesBuilder {
        self.default = Some(self.sites.len());
        self.sites.push(site);
        self
    }

    /// The keys of tickets, for sites that have none of their own; default new ones.
    pub fn tickets(mut self, tickets: &Tickets) -> SitesBuilder {
        self.tickets = Some(tickets.clone());
        self
    }

    /// Reads what is in files, and makes the configurations.
    ///
    /// # Errors
    /// A site has no name and is not the default, or its configuration cannot be made. There has to be a site.
    pub fn build(self) -> Result<Sites, SiteError> {
        let none = |error| SiteError { site: "default".into(), error };
        let tickets = match self.tickets {
            Some(tickets) => tickets,
            None => Tickets::new().map_err(none)?,
        };
        let plan = Plan { sites: self.sites, default: self.default, tickets };
        let table = RwLock::new(Arc::new(plan.table()?));
        Ok(Sites(Arc::new(Inner { plan: Mutex::new(plan), table })))
    }
}

impl Sites {
    /// The choices.
    pub fn builder() -> SitesBuilder {
        SitesBuilder::default()
    }

    /// The configuration for a client, as it is now. `None`: there is no such site; answer with
    /// [`Hello::refuse`](vestibule::Hello::refuse).
    pub fn choose(&self, hello: &vestibule::Hello<'_>) -> Option<TlsConfig> {
        self.choose_by(hello.sni, &mut hello.alpn())
    }

    /// The same by the server name and the protocols that the client offers, in its order.
    pub fn choose_by(&self, sni: Option<&str>, alpn: &mut dyn Iterator<Item = &[u8]>) -> Option<TlsConfig> {
        let table = self.table();
        let sites = table.by_name(sni)?;
        let offered: Vec<&[u8]> = if sites.len() > 1 { alpn.collect() } else { Vec::new() };
        let speaks = |site: &&usize| {
            let site = table.sites.get(**site);
            site.is_some_and(|site| site.alpn.iter().any(|protocol| offered.contains(&&protocol[..])))
        };
        let chosen = sites.iter().find(speaks).or_else(|| sites.first())?;
        table.sites.get(*chosen).map(|site| site.config.clone())
    }

    /// What a connection begins with, before its ClientHello is there.
    pub(super) fn fallback(&self) -> TlsConfig {
        self.table().fallback.clone()
    }

    fn table(&self) -> Arc<Table> {
        self.0.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files of all sites again. The next handshake sees all that is new, or, if anything is wrong with it, nothing of it:
    /// then everything stays as it was. Connections that are open go on as they are.
    ///
    /// # Errors
    /// What is wrong.
    pub fn reload(&self) -> Result<(), SiteError> {
        self.change(|_| Ok(()))
    }

    /// The site with this name among its own (`None`: the default one) gets another certificate chain and key, as PEM texts. The files of all others
    /// are read again, as in [`Sites::reload`].
    ///
    /// # Errors
    /// What is wrong; then everything stays as it was.
    pub fn replace(&self, name: Option<&str>, chain: &[u8], key: &[u8]) -> Result<(), SiteError> {
        self.change(|plan| {
            let named =
                |site: &Site| site.names.iter().any(|own| name.is_some_and(|name| own.eq_ignore_ascii_case(name)));
            let place = match name {
                Some(_) => plan.sites.iter().position(named),
                None => plan.default,
            };
            let missing = || SiteError { site: name.unwrap_or("default").to_string(), error: TlsError::NoSite };
            let site = place.and_then(|place| plan.sites.get_mut(place)).ok_or_else(missing)?;
            (site.chain, site.key) = (Pem::Text(chain.into()), Pem::Text(key.into()));
            Ok(())
        })
    }

    // One change at a time; handshakes go on meanwhile.
    fn change(&self, change: impl FnOnce(&mut Plan) -> Result<(), SiteError>) -> Result<(), SiteError> {
        let mut plan = self.0.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = plan.clone();
        change(&mut next)?;
        let table = Arc::new(next.table()?);
        *plan = next;
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }
}

impl Plan {
    fn table(&self) -> Result<Table, SiteError> {
        let (mut sites, mut exact, mut wild) = (Vec::new(), HashMap::new(), HashMap::new());
        for (number, site) in self.sites.iter().enumerate() {
            let is_default = self.default == Some(number);
            let refused =
                |error| SiteError { site: site.names.first().cloned().unwrap_or_else(|| "default".into()), error };
            if site.names.is_empty() && !is_default {
                return Err(refused(TlsError::NoName));
            }
            for name in &site.names {
                let name = name.to_ascii_lowercase();
                let rest = name.strip_prefix("*.");
                if !is_host(rest.unwrap_or(&name)) {
                    return Err(refused(TlsError::Name(name)));
                }
                match rest {
                    Some(rest) => wild.entry(rest.to_string()).or_insert_with(Vec::new).push(number),
                    None => exact.entry(name).or_insert_with(Vec::new).push(number),
                }
            }
            let others = self.sites.iter().enumerate().filter(|(other, _)| *other != number);
            let mut others = others.flat_map(|(_, other)| &other.names).peekable();
            // The binding names the site, so that a reload which changes nothing but certificates keeps its sessions.
            let binding = format!("{number} {}", site.names.join(" "));
            let config = site.make(&self.tickets, binding.as_bytes()).map_err(refused)?;
            let config = match is_default {
                true if others.peek().is_none() => config, // there is nobody else
                true => config.with_names(Names::all().without(others)),
                false => config.with_names(Names::of(&site.names).without(others)),
            };
            sites.push(Made { alpn: site.alpn.clone(), config });
        }
        let Some(first) = sites.get(self.default.unwrap_or(0)) else {
            return Err(SiteError { site: "default".into(), error: TlsError::NoSite });
        };
        let fallback = first.config.clone().ask();
        Ok(Table { sites, exact, wild, default: self.default, fallback })
    }
}

impl Table {
    fn by_name(&self, sni: Option<&str>) -> Option<&[usize]> {
        let named = sni.and_then(|sni| {
            let name = sni.to_ascii_lowercase();
            let wild = || self.wild.get(name.split_once('.').filter(|(label, _)| !label.is_empty())?.1);
            self.exact.get(&name).or_else(wild)
        });
        match named {
            Some(sites) => Some(sites),
            None => self.default.as_ref().map(std::slice::from_ref),
        }
    }
}

/// Letters, digits, hyphens and underscores between dots, or an address.
fn is_host(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if let Some(address) = address {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}
