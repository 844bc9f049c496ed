#!/usr/bin/env bash
# In: the sources of the core crate. Out: success when it builds without std at every level of features, for each
# target below. None of those targets has a std at all, so one that slips in, ours or a dependency's, cannot link.
#
#   .ci/no-std.sh [TARGET...]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# A 32 bit ARM, a 32 bit RISC-V without 64 bit atomics, and a 64 bit machine.
if [ $# -eq 0 ]; then set -- thumbv7em-none-eabihf riscv32imac-unknown-none-elf x86_64-unknown-linux-none; fi
# From nothing up: plain HTTP/1.1 in the caller's memory; with an allocator; TLS, whose provider is the caller's; all that
# goes without std.
levels=("" alloc tls tls,br,zstd,br-encoder,zstd-encoder,simdutf8,prost)

"$root/.ci/bare-metal.sh" "$@"

# Another compiler than everything else here, so another folder, or each would throw out the other's work.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/bare"
targets=()
for target in "$@"; do targets+=(--target "$target"); done
for level in "${levels[@]}"; do
  printf 'no-std: features [%s] for %s\n' "$level" "$*"
  cargo +bare build --locked -p vestibule --lib --no-default-features --features "$level" "${targets[@]}"
done
