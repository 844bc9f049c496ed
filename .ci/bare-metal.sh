#!/usr/bin/env bash
# In: names of targets that have no std (default: the three below). Out: a rustup toolchain `bare` that has core
# and alloc for each of them, so that `cargo +bare build --target T` works without any nightly flag.
#
#   .ci/bare-metal.sh [TARGET...]
#   BARE=/some/folder .ci/bare-metal.sh        keeps everything under that folder (default: the user's cache)
#
# Why this way: `rustup target add` needs the network of a release server. Debian packages a recent compiler
# (rustc-web) together with the sources of its own core and alloc (rust-web-src), and those two always match. They
# are unpacked under the prefix, beside whatever rustc the machine has, and nothing of it enters the PATH; only the
# LLVM library that this compiler loads is installed for the whole system.
#
# Safe to call again and again: what stands is kept, targets can be added later, and a run that was cut short is
# repeated, because each step is marked as done only at its end.
set -euo pipefail

default_targets=(thumbv7em-none-eabihf riscv32imac-unknown-none-elf x86_64-unknown-linux-none)
prefix=${BARE:-${XDG_CACHE_HOME:-$HOME/.cache}/bare-rust}
sysroot=$prefix/root/usr
if [ $# -eq 0 ]; then set -- "${default_targets[@]}"; fi

say() { printf 'bare-metal: %s\n' "$*" >&2; }

# When a parent cargo started us, its choice of toolchain and flags must not leak into ours.
unset RUSTUP_TOOLCHAIN RUSTC CARGO RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
host=$(rustc -vV | sed -n 's/^host: //p')
multiarch=${host/-unknown/} # Debian's spelling: x86_64-linux-gnu

# Two runs at once would unpack into each other's folders.
mkdir -p "$prefix"
exec 9>"$prefix/.lock"
flock 9

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Debian's build of rustc has no search path of its own; rustup sets this one too when it calls it.
bare_rustc() { LD_LIBRARY_PATH=$sysroot/lib "$sysroot/bin/rustc" "$@"; }

# A mark alone is not enough: the cache may have outlived the LLVM library that the compiler loads.
unpacked() { [ -e "$prefix/.ready" ] && bare_rustc -vV >/dev/null 2>&1; }

unpack() {
  say "unpacking Debian's rustc-web under $prefix"
  rm -rf "$prefix/root" "$prefix/debs" "$prefix/.ready"
  mkdir -p "$prefix/root" "$prefix/debs"
  as_root apt-get -qq update || say "apt-get update failed; trying with the package lists that are here"
  local libstd llvm
  libstd=$(apt-cache depends libstd-rust-web-dev | awk '/Depends: libstd-rust-web-/ { print $2; exit }')
  [ -n "$libstd" ] || { say "no package libstd-rust-web-dev in the package lists"; exit 1; }
  (cd "$prefix/debs" && apt-get -qq -o APT::Sandbox::User=root download rustc-web rust-web-src libstd-rust-web-dev "$libstd")
  # The compiler's shared half (librustc_driver) comes with this package; it names the LLVM that it was linked to.
  llvm=$(dpkg-deb -f "$prefix/debs/$libstd"_*.deb Depends | grep -o 'libllvm[0-9]*' | head -n 1)
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$llvm" >/dev/null
  local deb
  for deb in "$prefix"/debs/rustc-web_*.deb "$prefix"/debs/libstd-*.deb; do dpkg-deb -x "$deb" "$prefix/root"; done
  # Of the sources only the library half is wanted; the compiler's own would be ten times as much.
  dpkg-deb --fsys-tarfile "$prefix"/debs/rust-web-src_*.deb |
    tar x -C "$prefix/root" --wildcards './usr/src/rustc-*/library' ./usr/lib/rustlib/src
  # rustc looks for its shared libraries in lib/, Debian keeps them one folder deeper.
  local so
  for so in "$sysroot/lib/$multiarch"/*.so; do ln -sf "$multiarch/${so##*/}" "$sysroot/lib/"; done
  bare_rustc -vV >/dev/null || { say "the unpacked rustc does not start"; exit 1; }
  rm -rf "$prefix/debs"
  touch "$prefix/.ready"
}

# Borrowed from the installed toolchain on every run, since an update moves them.
borrow() {
  local bin=lib/rustlib/$host/bin
  ln -sf "$(rustup which cargo)" "$sysroot/bin/cargo" # without one here rustup falls back to some other toolchain's
  mkdir -p "$sysroot/$bin"
  ln -sf "$(rustc --print sysroot)/$bin/rust-lld" "$sysroot/$bin/rust-lld" # the linker of the *-none targets
  rustup toolchain link bare "$sysroot"
}

# Builds core and alloc for the given targets, by way of an empty crate that needs nothing else.
build() {
  local stub=$prefix/stub out=$prefix/target t args=()
  say "building core and alloc for $*"
  for t in "$@"; do args+=(--target "$t"); done
  rm -rf "$stub" "$out"
  mkdir -p "$stub/src"
  printf '[package]\nname = "stub"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n' >"$stub/Cargo.toml"
  echo '#![no_std]' >"$stub/src/lib.rs"
  # RUSTC_BOOTSTRAP lets this one call use -Zbuild-std; bitcode is embedded so that users may still choose LTO.
  (cd "$stub" && RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$out RUSTFLAGS=-Cembed-bitcode=yes \
    cargo +bare build --quiet --release -Zbuild-std=core,alloc,compiler_builtins "${args[@]}")
  for t in "$@"; do
    local lib=$sysroot/lib/rustlib/$t
    rm -rf "$lib"
    mkdir -p "$lib/lib"
    cp "$out/$t"/release/deps/lib{core,alloc,compiler_builtins}-*.rlib "$lib/lib/"
    stamp >"$lib/.built"
  done
  rm -rf "$stub" "$out"
}

# What a built core belongs to; another compiler under the prefix makes it stale.
stamp() { bare_rustc -vV; }

unpacked || unpack
borrow
missing=()
for t in "$@"; do
  [ "$(cat "$sysroot/lib/rustlib/$t/.built" 2>/dev/null)" = "$(stamp)" ] || missing+=("$t")
done
[ ${#missing[@]} -eq 0 ] || build "${missing[@]}"
say "toolchain \`bare\` is ready ($(bare_rustc --version)) for $*"
