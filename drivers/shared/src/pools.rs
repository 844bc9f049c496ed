//! In: what is to be done elsewhere. Out: the pools for it.

use crate::builder::Plan;
use crate::pool::Pool;
use crate::server::processors;
use crate::topology::{Offload, Topology};
use std::io;

/// Where work goes that is not done on its worker.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pub(crate) handshakes: Option<Pool>,
    pub(crate) records: Option<Pool>,
    pub(crate) decode: Option<Pool>,
    /// Whole turns: parsing and the service; parsing alone if that hands its calls on.
    pub(crate) turns: Option<Pool>,
    /// Calls of a handler.
    pub(crate) calls: Option<Pool>,
}

impl Pools {
    pub(crate) fn start(plan: &Plan) -> io::Result<Pools> {
        let stages = plan.topology == Topology::Stages;
        let threads = plan.pool_threads.unwrap_or(if stages { 1 } else { processors() });
        let pool = |on: bool, name| on.then(|| Pool::start(name, threads, plan.queue, |_| {})).transpose();
        let Offload { handshakes, records, decode, process } = plan.offload;
        let calls = plan.handler.is_some();
        Ok(Pools {
            handshakes: pool(handshakes && !records && !stages, "crypto")?,
            records: pool(records || stages, "crypto")?,
            decode: pool(decode || stages, "decode")?,
            turns: match (process || stages) && !calls {
                true => pool(true, "process")?,
                false => pool(stages, "parse")?,
            },
            calls: pool((process || stages) && calls, "process")?,
        })
    }

    pub(crate) fn never_move(&self) -> bool {
        self.handshakes.is_none() && self.turns.is_none()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Pool> + Clone {
        [&self.handshakes, &self.records, &self.decode, &self.turns, &self.calls].into_iter().flatten()
    }

    pub(crate) fn close(&self) {
        self.all().for_each(Pool::close);
    }
}

/// Also if the server never came to be.
impl Drop for Pools {
    fn drop(&mut self) {
        self.close();
    }
}
