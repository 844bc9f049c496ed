//! In: descriptors and options that neither std nor socket2 nor rustix knows. Out: the same, safe. The only `unsafe` of this crate.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;

/// A TCP option of a listening socket, by its number in `linux/tcp.h`.
#[cfg(target_os = "linux")]
#[derive(Copy, Clone, Debug)]
pub(crate) enum TcpOption {
    DeferAccept = libc::TCP_DEFER_ACCEPT as isize,
    FastOpen = libc::TCP_FASTOPEN as isize,
}

/// Sets a TCP option whose value is an `int`.
#[cfg(target_os = "linux")]
pub(crate) fn set_tcp(socket: &socket2::Socket, option: TcpOption, value: libc::c_int) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer and the size are those of `value`, which outlives the call; the kernel only reads it. The descriptor is
    // open as long as `socket` is borrowed.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option as libc::c_int, (&raw const value).cast(), size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The value of such an option.
#[cfg(all(target_os = "linux", test))]
pub(crate) fn tcp(socket: &socket2::Socket, option: TcpOption) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: as above, but that the kernel writes at most `size` bytes to `value`; any bytes are a valid `int`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option as libc::c_int,
            (&raw mut value).cast(),
            &raw mut size,
        )
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// The first bytes of the kernel's `struct tcp_info`, and how many of them it has written.
#[cfg(target_os = "linux")]
pub(crate) fn tcp_info(socket: &socket2::Socket) -> io::Result<([u8; 64], usize)> {
    let mut info = [0; 64];
    let mut size = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes behind the pointer, and those are `info`'s; any bytes are a valid `[u8]`. It
    // writes to `size` how many they were. Both outlive the call, and the descriptor is open as long as `socket` is borrowed.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut size)
    };
    if done == 0 { Ok((info, info.len().min(size as usize))) } else { Err(io::Error::last_os_error()) }
}

/// The first descriptor that a service manager passes (`SD_LISTEN_FDS_START` of sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// Takes the descriptors that a service manager opened for this process, from the third on. Once: afterwards there is none.
///
/// To be called only if the environment says that so many were passed to this very process.
///
/// # Errors
/// One of them is not open; then none is taken.
pub(crate) fn take_passed(count: u16) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let numbers = FIRST..FIRST.saturating_add(RawFd::from(count));
    for number in numbers.clone() {
        // SAFETY: F_GETFD reads a flag of a number that may or may not be a descriptor, and touches no memory of ours.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: the numbers are open, as was just seen, and nobody else owns them: they were open when this program began (that is
    // what the caller has read), so the kernel has given their numbers to nobody in it, and `TAKEN` lets nobody take them a second time.
    let take = |number| unsafe { OwnedFd::from_raw_fd(number) };
    Ok(numbers.map(take).collect())
}
