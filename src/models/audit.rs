//! In: a connection between two turns. Out: nothing, or a panic: every byte that the peer was ever granted has one holder, every
//! pool holds what its users hold, and memory stays where it was promised (P-3, P-14, M-10).

use crate::connection::{Connection, Engine};
use crate::delivery::{JobAt, Stage};
use crate::h2_road::Intake;
use crate::parse::h2::Stream;
use crate::reply::Exchanges;
use crate::{Config, Limit};
use std::sync::Arc;

/// What must hold after every turn. `whole`: the input ended with a frame, so nothing of one is under way.
pub(super) fn check(connection: &mut Connection<Arc<Config>>, whole: bool) {
    let (held, bound) = (connection.retained_bytes(), connection.config().machine_bound_bytes());
    assert!(held <= bound, "{held} bytes are held, {bound} were promised");
    let gather_bytes = connection.config().limits().get(Limit::GatherBytes);
    let pool = connection.config().limits().get(Limit::DecoderPoolBytes);
    let core = connection.core();
    let (Engine::H2(h2), Exchanges::H2(streams)) = (&core.engine, &core.exchanges) else { return };
    let (mut content, mut pooled, mut jobs, mut decoders, mut small) = (0, 0, 0, 0, 0);
    let mut decoder_bytes = 0;
    let mut ready = [0u16; 8];
    let mut open = vec![false; h2.intakes.len()];
    for (slot, stream) in streams.iter() {
        let n = stream.number;
        assert!(n != 0 && stream.shared.id == u64::from(n));
        let account = &stream.account;
        assert!(account.is_balanced(), "stream {n}: {account:?}");
        content += account.held() - account.handed();
        small += u64::from(stream.small);
        let waits = (!stream.parked.is_empty() || stream.shared.starved) && stream.window > 0;
        assert_eq!(stream.ready, waits, "stream {n}: its turn to write");
        ready[usize::from(stream.priority.urgency)] += u16::from(stream.ready);
        let Some(intake) = h2.intakes.get(usize::from(slot)) else { continue };
        open[usize::from(slot)] = true;
        let lent = h2.loan.filter(|l| l.number == n && l.from_kept).map_or(0, |l| l.content);
        assert_eq!(intake.waiting().len() as u32, account.kept() + lent, "stream {n}: what is kept of it");
        stored(intake, stream);
        let on_loan = h2.loan.filter(|l| l.number == n).map_or(0, |l| l.content);
        let lent = account.held() - account.handed() - account.kept();
        assert!(lent == on_loan || (lent > on_loan && !whole), "stream {n}: {lent} lent, {on_loan} on loan");
        pooled += intake.pooled;
        jobs += u16::from(matches!(intake.delivery.job, JobAt::Ready));
        decoders += u64::from(intake.delivery.decoder.is_some());
        decoder_bytes += intake.decoder_bytes;
        let held = intake.delivery.decoder.as_ref().map_or(0, |decoder| decoder.retained_bytes() as u64);
        assert!(held <= intake.decoder_bytes, "stream {n}: its decoder holds {held}");
    }
    for (slot, intake) in h2.intakes.iter().enumerate().filter(|(slot, _)| !open[*slot]) {
        assert!(intake.waiting().is_empty() && intake.kept.capacity() == 0, "slot {slot} is free and keeps content");
        assert!(intake.pooled == 0 && intake.delivery.decoder.is_none() && intake.trailers.is_none(), "slot {slot}");
        assert!(matches!(intake.delivery.job, JobAt::None) && intake.delivery.stage == Stage::Over, "slot {slot}");
    }
    let account = streams.ledger.connection();
    assert!(account.is_balanced(), "the connection: {account:?}");
    assert_eq!(account.held(), content, "what the connection holds is what its streams lend and keep");
    assert_eq!(streams.ledger.gathered(), pooled, "the pool of gathered bodies");
    assert!(pooled <= gather_bytes);
    assert_eq!((h2.jobs, h2.decoders), (jobs, decoders), "jobs to be fetched, decoders in use");
    assert_eq!(h2.decoder_bytes, decoder_bytes, "the pool of decoders");
    let spare = h2.spare_decoder.as_ref().map_or(0, |decoder| decoder.retained_bytes() as u64);
    assert!(decoder_bytes.max(spare) <= pool, "{decoder_bytes} and {spare} of {pool}");
    assert_eq!(streams.wire.ready, ready, "streams that are ready to write");
    let guard = format!("{:?}", h2.receiver.guard);
    assert!(guard.contains(&format!(" small: {small},")), "small frames that nobody has taken: {small}, {guard}");
}

/// M-10: what is kept of a body is stored contiguously, at little more than its length.
fn stored(intake: &Intake, stream: &Stream) {
    let (holds, takes) = (intake.waiting().len(), intake.kept.capacity());
    assert!(4 * takes <= 5 * holds + 16_384, "stream {}: {takes} bytes store {holds}", stream.number);
}

/// All streams are over: every counter is back at its baseline (M-12, P-20).
pub(super) fn at_rest(connection: &mut Connection<Arc<Config>>) {
    check(connection, true);
    let core = connection.core();
    assert!(core.h2_is_between());
    let (Engine::H2(h2), Exchanges::H2(streams)) = (&core.engine, &core.exchanges) else { panic!("not HTTP/2") };
    assert!(streams.is_empty(), "open streams: {:?}", streams.iter().map(|(_, s)| s.number).collect::<Vec<_>>());
    let account = streams.ledger.connection();
    assert_eq!(account.open() + account.owed(), account.size());
    assert!(account.owed() < 16_384, "credit that is due is announced");
    assert_eq!((streams.ledger.gathered(), h2.jobs, h2.decoders, h2.decoder_bytes), (0, 0, 0, 0));
    assert!(h2.loan.is_none() && h2.queue.is_empty());
    assert_eq!(streams.wire.ready, [0; 8]);
}
