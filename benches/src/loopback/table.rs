//! In: figures by load, contender and round. Out: tables of ratios, each taken within one round, and of absolute figures.

use crate::load::{Figure, Load};
use crate::names::{Contender, PEER, USUAL};
use std::collections::BTreeMap;

/// What was measured: by the load's place, and the contender's name, one a round.
#[derive(Default)]
pub(crate) struct Figures {
    by: BTreeMap<(usize, &'static str), Vec<Option<Figure>>>,
}

impl Figures {
    /// Takes what a round has brought.
    pub(crate) fn add(&mut self, load: usize, name: &'static str, figure: Option<Figure>) {
        self.by.entry((load, name)).or_default().push(figure);
    }

    fn of(&self, load: usize, name: &str) -> &[Option<Figure>] {
        self.by.iter().find(|((l, n), _)| *l == load && *n == name).map_or(&[], |(_, figures)| figures)
    }

    /// The medians of the other's CPU time over ours, and of our rate over the other's: more is better.
    fn ratios(&self, load: usize, name: &str, other: &str) -> Option<[f64; 2]> {
        let both = || self.of(load, name).iter().zip(self.of(load, other)).filter_map(|(own, o)| own.zip(*o));
        let cpu = median(both().map(|(own, other)| other.nanos / own.nanos))?;
        Some([cpu, median(both().map(|(own, other)| own.rate / other.rate))?])
    }

    /// Each load against the peer.
    pub(crate) fn against_the_peer(&self, contenders: &[Contender]) {
        for (place, load) in Load::ALL.iter().enumerate() {
            println!("\n{} ({})", load.name(), load.tool());
            println!("  {:<22} {:>9} {:>9} {:>12} {:>12}", "", "CPU x", "rate x", "ns/request", "requests/s");
            for contender in contenders {
                let figures = || self.of(place, contender.name).iter().flatten();
                let (nanos, rate) = (median(figures().map(|f| f.nanos)), median(figures().map(|f| f.rate)));
                let (Some(nanos), Some(rate)) = (nanos, rate) else { continue };
                let [cpu, faster] = match self.ratios(place, contender.name, PEER) {
                    Some(ratios) => ratios.map(|ratio| format!("{ratio:.2}")),
                    None => ["-".into(), "-".into()],
                };
                println!("  {:<22} {cpu:>9} {faster:>9} {nanos:>12.0} {rate:>12.0}", contender.name);
            }
        }
    }

    /// The layouts, all loads in one table.
    pub(crate) fn against_the_usual(&self, contenders: &[Contender]) {
        println!("\nLayouts against {USUAL}: CPU x / rate x");
        let heads = ["1.1", "pipelined", "1.1 TLS", "h2c", "h2 TLS", "new", "new TLS"];
        println!("  {:<22} {}", "", heads.map(|head| format!("{head:>11}")).join(" "));
        for contender in contenders.iter().filter(|contender| contender.has_layout()) {
            let cells = (0..Load::ALL.len()).map(|load| match self.ratios(load, contender.name, USUAL) {
                Some([cpu, rate]) => format!("{:>11}", format!("{cpu:.2}/{rate:.2}")),
                None => format!("{:>11}", "-"),
            });
            println!("  {:<22} {}", contender.name, cells.collect::<Vec<_>>().join(" "));
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
