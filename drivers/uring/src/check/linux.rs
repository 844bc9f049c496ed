//! In: questions to this machine, or to a model of one. Out: what is missing, the first thing first.

use super::Missing;
use crate::ring::{self, Ring, Sizes, Socket};
use crate::seam::{Done, Kernel};
use io_uring::{IoUring, Probe, opcode};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vestibule_driver::Key;

/// What a machine can be asked.
pub(super) trait Machine {
    /// `kernel.io_uring_disabled`, if there is such a thing.
    fn disabled(&self) -> Option<u8>;
    /// A ring without any flag.
    fn plain_ring(&mut self) -> io::Result<()>;
    /// A ring with these flags of setup.
    fn ring_with(&mut self, flag: Flag) -> io::Result<()>;
    /// The kernel never drops a completion, and takes a timeout with a wait.
    fn features(&mut self) -> (bool, bool);
    fn has_operation(&mut self, code: u8) -> bool;
    /// A ring of buffers, and a multishot receive into it that says that there is more.
    fn receives(&mut self) -> io::Result<bool>;
}

/// A flag of setup, or a size.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Flag {
    SingleIssuer,
    DeferTaskrun,
    All,
}

/// The operations that are submitted, and since when there are such.
const OPERATIONS: [(u8, &str, &str); 7] = [
    (opcode::Accept::CODE, "IORING_OP_ACCEPT", "5.5"),
    (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL", "5.5"),
    (opcode::Recv::CODE, "IORING_OP_RECV", "5.6"),
    (opcode::Send::CODE, "IORING_OP_SEND", "5.6"),
    (opcode::Close::CODE, "IORING_OP_CLOSE", "5.6"),
    (opcode::Shutdown::CODE, "IORING_OP_SHUTDOWN", "5.11"),
    (opcode::SendZc::CODE, "IORING_OP_SEND_ZC", "6.0"),
];

pub(super) fn judge(machine: &mut impl Machine) -> Result<(), Missing> {
    let feature = |name, since| Missing::Feature { name, since };
    if let Err(error) = machine.plain_ring() {
        return Err(match (error.raw_os_error(), machine.disabled()) {
            (Some(libc::EPERM), Some(level @ 1..)) => Missing::Disabled(level),
            (Some(libc::EPERM | libc::EACCES), _) => Missing::Forbidden,
            // A seccomp filter may say that, too; then there is a sysctl though there is no system call.
            (Some(libc::ENOSYS), Some(_)) => Missing::Forbidden,
            (Some(libc::ENOSYS), None) => Missing::Kernel,
            (Some(libc::ENOMEM), _) => Missing::Memory,
            _ => Missing::Other(error.to_string()),
        });
    }
    let (keeps_completions, takes_timeouts) = machine.features();
    if !keeps_completions {
        return Err(feature("IORING_FEAT_NODROP", "5.5"));
    }
    if !takes_timeouts {
        return Err(feature("IORING_FEAT_EXT_ARG", "5.11"));
    }
    for (code, name, since) in OPERATIONS {
        if !machine.has_operation(code) {
            return Err(feature(name, since));
        }
    }
    for (flag, name, since) in [
        (Flag::SingleIssuer, "IORING_SETUP_SINGLE_ISSUER", "6.0"),
        (Flag::DeferTaskrun, "IORING_SETUP_DEFER_TASKRUN", "6.1"),
        (Flag::All, "IORING_SETUP_SUBMIT_ALL with IORING_SETUP_COOP_TASKRUN", "5.19"),
    ] {
        match machine.ring_with(flag).map_err(|error| error.raw_os_error()) {
            Ok(()) => {}
            Err(Some(libc::EINVAL)) => return Err(feature(name, since)),
            Err(Some(libc::ENOMEM)) => return Err(Missing::Memory),
            Err(code) => return Err(Missing::Other(format!("{name} fails with error {}", code.unwrap_or(0)))),
        }
    }
    match machine.receives() {
        Ok(true) => Ok(()),
        Ok(false) => Err(feature("IORING_RECV_MULTISHOT", "6.0")),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINVAL) => Err(feature("IORING_REGISTER_PBUF_RING or IORING_RECV_MULTISHOT", "6.0")),
            Some(libc::ENOMEM) => Err(Missing::Memory),
            _ => Err(Missing::Other(error.to_string())),
        },
    }
}

/// This machine.
#[derive(Default)]
pub(super) struct Here {
    ring: Option<IoUring>,
    probe: Option<Probe>,
}

impl Machine for Here {
    fn disabled(&self) -> Option<u8> {
        std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
    }

    fn plain_ring(&mut self) -> io::Result<()> {
        let ring = IoUring::new(4)?;
        let mut probe = Probe::new();
        self.probe = ring.submitter().register_probe(&mut probe).is_ok().then_some(probe);
        self.ring = Some(ring);
        Ok(())
    }

    fn ring_with(&mut self, flag: Flag) -> io::Result<()> {
        let mut builder = IoUring::builder();
        match flag {
            Flag::SingleIssuer => drop(builder.setup_single_issuer()),
            Flag::DeferTaskrun => drop(builder.setup_single_issuer().setup_defer_taskrun()),
            Flag::All => builder = ring::builder(4),
        }
        builder.build(4).map(drop)
    }

    fn features(&mut self) -> (bool, bool) {
        let parameters = self.ring.as_ref().map(IoUring::params);
        parameters.map_or((false, false), |p| (p.is_feature_nodrop(), p.is_feature_ext_arg()))
    }

    fn has_operation(&mut self, code: u8) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.is_supported(code))
    }

    fn receives(&mut self) -> io::Result<bool> {
        let sizes = Sizes { submissions: 4, buffers: 2, buffer_bytes: 512, zero_copy: None };
        let mut ring = Ring::new(sizes, Vec::new())?;
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.write_all(b"?")?;
        ring.receive(&Socket::new(OwnedFd::from(theirs)), Key::from_bits(1));
        for _ in 0..3 {
            ring.turn(Some(Duration::from_secs(1)))?;
            while let Some(done) = ring.next() {
                match done {
                    Done::Received { result: Ok(Some((lent, 1))), more, .. } => {
                        return Ok(more && lent.as_ref().first() == Some(&b'?'));
                    }
                    Done::Received { result: Err(errno), .. } => return Err(io::Error::from_raw_os_error(errno.0)),
                    _ => {}
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that lacks one thing.
    #[derive(Clone)]
    struct Model {
        sysctl: Option<u8>,
        plain: i32,
        features: (bool, bool),
        without: Option<u8>,
        refused: Option<(Flag, i32)>,
        receives: Result<bool, i32>,
    }

    const WHOLE: Model =
        Model { sysctl: Some(0), plain: 0, features: (true, true), without: None, refused: None, receives: Ok(true) };

    fn result(code: i32) -> io::Result<()> {
        if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
    }

    impl Machine for Model {
        fn disabled(&self) -> Option<u8> {
            self.sysctl
        }
        fn plain_ring(&mut self) -> io::Result<()> {
            result(self.plain)
        }
        fn ring_with(&mut self, flag: Flag) -> io::Result<()> {
            self.refused.filter(|refused| refused.0 == flag).map_or(Ok(()), |refused| result(refused.1))
        }
        fn features(&mut self) -> (bool, bool) {
            self.features
        }
        fn has_operation(&mut self, code: u8) -> bool {
            self.without != Some(code)
        }
        fn receives(&mut self) -> io::Result<bool> {
            self.receives.map_err(io::Error::from_raw_os_error)
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let old = |name, since| Err(Missing::Feature { name, since });
        let cases = [
            (WHOLE, Ok(())),
            (Model { plain: libc::EPERM, sysctl: Some(2), ..WHOLE }, Err(Missing::Disabled(2))),
            (Model { plain: libc::EPERM, ..WHOLE }, Err(Missing::Forbidden)),
            (Model { plain: libc::ENOSYS, ..WHOLE }, Err(Missing::Forbidden)),
            (Model { plain: libc::ENOSYS, sysctl: None, ..WHOLE }, Err(Missing::Kernel)),
            (Model { plain: libc::ENOMEM, ..WHOLE }, Err(Missing::Memory)),
            (Model { features: (false, true), ..WHOLE }, old("IORING_FEAT_NODROP", "5.5")),
            (Model { features: (true, false), ..WHOLE }, old("IORING_FEAT_EXT_ARG", "5.11")),
            (Model { without: Some(opcode::SendZc::CODE), ..WHOLE }, old("IORING_OP_SEND_ZC", "6.0")),
            (
                Model { refused: Some((Flag::SingleIssuer, libc::EINVAL)), ..WHOLE },
                old("IORING_SETUP_SINGLE_ISSUER", "6.0"),
            ),
            (
                Model { refused: Some((Flag::DeferTaskrun, libc::EINVAL)), ..WHOLE },
                old("IORING_SETUP_DEFER_TASKRUN", "6.1"),
            ),
            (Model { refused: Some((Flag::All, libc::ENOMEM)), ..WHOLE }, Err(Missing::Memory)),
            (Model { receives: Ok(false), ..WHOLE }, old("IORING_RECV_MULTISHOT", "6.0")),
        ];
        for (mut machine, expected) in cases {
            assert_eq!(judge(&mut machine), expected);
        }
        let mut machine = Model { refused: Some((Flag::DeferTaskrun, libc::EINVAL)), ..WHOLE };
        let said = judge(&mut machine).map_err(|missing| missing.to_string());
        let text = "io_uring cannot be used: this kernel has no IORING_SETUP_DEFER_TASKRUN, which came with Linux 6.1";
        assert_eq!(said, Err(text.to_string()));
    }
}
