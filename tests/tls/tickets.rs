//! Sessions are resumed where they began, and nowhere else (TLS-09).

use super::clients::{NEW, OLD, Policy, User};
use super::*;

/// Shakes hands, and says whether that resumed a session. `None`: it failed.
fn visit(offered: &Arc<ClientConfig>, config: &TlsConfig) -> Option<bool> {
    let (mut client, mut server) = (connect_to(offered.clone(), "localhost"), Server::new(config.clone()));
    pump(&mut client, &mut server).ok()?;
    server.feed(&say(&mut client, b"x"));
    assert_eq!(server.plain, b"x");
    Some(server.tls.resumed())
}

/// The ways to keep sessions: tickets, and a store. Shared by all configurations that are made from it.
fn keepers() -> [fn(&mut ServerConfig, &ServerConfig); 2] {
    [|to, from| to.ticketer = from.ticketer.clone(), |to, from| to.session_storage = from.session_storage.clone()]
}

fn keeper(site: &Site) -> ServerConfig {
    let mut keeper = site.server();
    keeper.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    keeper.session_storage = ServerSessionMemoryCache::new(64);
    keeper
}

#[test]
fn a_session_of_one_configuration_is_none_of_anothers_though_they_share_its_keys() {
    for (versions, share) in [OLD, NEW].into_iter().flat_map(|v| keepers().map(|k| (v, k))) {
        let site = Site { versions, ..Site::new() };
        let keeper = keeper(&site);
        let server = || {
            let mut config = site.server();
            share(&mut config, &keeper);
            config
        };
        let (one, two) = (TlsConfig::new(server()), TlsConfig::new(server()));
        let mut offered = site.client();
        offered.resumption = Resumption::in_memory_sessions(8);
        let offered = Arc::new(offered);
        assert_eq!(visit(&offered, &one), Some(false));
        assert_eq!(visit(&offered, &one), Some(true));
        assert_eq!(visit(&offered, &one.clone()), Some(true), "a clone is the same configuration");
        assert_eq!(visit(&offered, &two), Some(false), "another one is not");
        assert_eq!(visit(&offered, &two), Some(true));
        assert_eq!(visit(&offered, &one), Some(false), "and back");
        // Who wants to share says so, with the same words on both sides.
        let bound = |binding: &[u8]| TlsConfig::bound_to(server(), binding);
        assert_eq!(visit(&offered, &bound(b"www")), Some(false));
        assert_eq!(visit(&offered, &bound(b"www")), Some(true));
        for other in [&b"ww"[..], b"wwww", b"", b"wwv"] {
            assert_eq!(visit(&offered, &bound(other)), Some(false), "{other:?}");
            assert_eq!(visit(&offered, &bound(other)), Some(true), "{other:?}");
        }
    }
}

#[test]
fn no_ticket_crosses_a_policy_of_client_certificates() {
    for (versions, share) in [OLD, NEW].into_iter().flat_map(|v| keepers().map(|k| (v, k))) {
        let (site, user) = (Site { versions, ..Site::new() }, User::new());
        let keeper = keeper(&site);
        let open = {
            let mut config = site.server();
            share(&mut config, &keeper);
            TlsConfig::new(config)
        };
        let strict = {
            let mut config = site.server_for(&user, Policy::Required);
            share(&mut config, &keeper);
            TlsConfig::new(config).with_client_certificates()
        };
        // A client without a certificate, with a ticket of where none is needed.
        let mut offered = site.client();
        offered.resumption = Resumption::in_memory_sessions(8);
        let offered = Arc::new(offered);
        assert_eq!(visit(&offered, &open), Some(false));
        assert_eq!(visit(&offered, &open), Some(true));
        assert_eq!(visit(&offered, &strict), None, "it has to show a certificate, and has none");
        // The other way round, the identity does not go along.
        let known = Arc::new(site.client_as(&user.chain, &user));
        assert_eq!(visit(&known, &strict), Some(false));
        assert_eq!(visit(&known, &strict), Some(true));
        let (mut client, mut server) = (connect_to(known, "localhost"), Server::new(open));
        pump(&mut client, &mut server).unwrap();
        assert!(!server.tls.resumed() && server.tls.identity().is_none());
    }
}

#[test]
fn a_session_that_is_too_long_for_a_ticket_is_not_resumed() {
    for (versions, share) in [OLD, NEW].into_iter().flat_map(|v| keepers().map(|k| (v, k))) {
        let (site, user) = (Site { versions, ..Site::new() }, User::new());
        let mut config = site.server_for(&user, Policy::Required);
        share(&mut config, &keeper(&site));
        let config = TlsConfig::new(config).with_client_certificates();
        let chain = [&user.chain[..], &[CertificateDer::from(vec![7; 8_000])]].concat();
        let offered = Arc::new(site.client_as(&chain, &user));
        for _ in 0..3 {
            assert_eq!(visit(&offered, &config), Some(false));
        }
    }
}
