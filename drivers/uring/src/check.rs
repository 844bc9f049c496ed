//! In: this machine. Out: whether io_uring does here what this crate needs; if not, what is missing, and what to do about it.

use std::fmt;

/// Why io_uring cannot be used here. Displays as one sentence that names what is missing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Missing {
    /// This is not Linux.
    System,
    /// The kernel has no io_uring: it is older than 5.1, or was built without.
    Kernel,
    /// `/proc/sys/kernel/io_uring_disabled` says no. 1: for processes without CAP_SYS_ADMIN; 2: for all.
    Disabled(u8),
    /// Something forbids the system call: seccomp, as in most containers, or a security module.
    Forbidden,
    /// There is not enough memory, or not enough that may be locked.
    Memory,
    /// The kernel does not know one thing that is needed; since which version it would.
    Feature {
        /// What, as the kernel's headers write it.
        name: &'static str,
        /// The kernel that brought it.
        since: &'static str,
    },
    /// Something else.
    Other(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("io_uring cannot be used: ")?;
        match self {
            Missing::System => f.write_str("this is not Linux"),
            Missing::Kernel => f.write_str("this kernel has none (it needs Linux 6.1, built with CONFIG_IO_URING)"),
            Missing::Disabled(level) => {
                write!(f, "it is disabled by the sysctl kernel.io_uring_disabled = {level}; 0 enables it")
            }
            Missing::Forbidden => {
                f.write_str("the system call io_uring_setup is forbidden here (seccomp, as containers have it, or a security module)")
            }
            Missing::Memory => f.write_str("there is not enough memory for its queues (see RLIMIT_MEMLOCK)"),
            Missing::Feature { name, since } => write!(f, "this kernel has no {name}, which came with Linux {since}"),
            Missing::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Missing {}

/// Whether this machine can do it. Makes a small ring and receives a byte with it, so that the answer is seen and not inferred.
///
/// # Errors
/// What is missing.
pub fn check() -> Result<(), Missing> {
    // On a thread of its own: a kernel that takes a ring down interrupts whatever the thread that had it waits for (EINTR).
    #[cfg(target_os = "linux")]
    return std::thread::scope(|scope| {
        let judge = || linux::judge(&mut linux::Here::default());
        let thread = std::thread::Builder::new().name("vestibule-check".into()).spawn_scoped(scope, judge);
        let judged = thread.map_err(|error| Missing::Other(format!("a thread cannot be started: {error}")))?.join();
        judged.unwrap_or_else(|_| Err(Missing::Other("its check panicked".into())))
    });
    #[cfg(not(target_os = "linux"))]
    Err(Missing::System)
}

#[cfg(target_os = "linux")]
mod linux;
