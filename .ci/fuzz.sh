#!/usr/bin/env bash
# In: seconds for each target. Out: success when no target of `fuzz/` found anything, starting from the committed
# seeds, the inputs of the test scripts and whatever earlier runs on this machine left in fuzz/corpus.
#
#   .ci/fuzz.sh SECONDS [TARGET...]
#
# A finding is written to fuzz/artifacts/TARGET/ and printed in base64, for a log is all that CI keeps. Play it again
# with `cargo +nightly fuzz run TARGET FILE`; then make it a test.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
seconds=${1:?usage: .ci/fuzz.sh SECONDS [TARGET...]}
shift
[[ $seconds =~ ^[0-9]+$ ]] || { echo "fuzz: SECONDS must be a whole number, got '$seconds'" >&2; exit 2; }
export RUSTUP_AUTO_INSTALL=0

# Sanitizers are flags of the nightly compiler. It has to be there: nothing is downloaded.
cargo +nightly --version >/dev/null || { echo "fuzz: the toolchain 'nightly' is not installed" >&2; exit 1; }
cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked --version '^0.13'

if [ $# -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do name=${file##*/}; set -- "$@" "${name%.rs}"; done
fi

# The scripts are inputs already. The test `export_seeds` writes each to $VESTIBULE_SEEDS/TARGET/NAME, and does
# nothing when that is not set. Built with the flags of a plain `cargo test`, so nothing is compiled twice.
if [ -e tests/scripts.rs ]; then
  mkdir -p fuzz/corpus
  VESTIBULE_SEEDS="$root/fuzz/corpus" cargo test --quiet --test scripts export_seeds
fi

# Optimised, with debug assertions, overflow checks and the address sanitizer. All targets at once, for both cores.
# A sanitized build shares nothing with the others; it stays in fuzz/target, where cargo-fuzz itself looks.
work=$root/fuzz/target
cargo +nightly fuzz build --target-dir "$work"

# Runs one target; its log and its line of the report go to files of its own.
run() {
  local target=$1 log=$work/$1.log done_line cover
  mkdir -p "fuzz/corpus/$target" "fuzz/seeds/$target"
  # New inputs go to the first folder only. An input that takes ten seconds is a finding too: work is to be linear.
  if cargo +nightly fuzz run --target-dir "$work" "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=4096 -timeout=10 >"$log" 2>&1; then
    done_line=$(grep '^Done ' "$log" | tail -n 1) || true
    cover=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1) || true
    printf 'fuzz: %s: %s, %s\n' "$target" "${done_line:-no summary}" "${cover:-no coverage}"
  else
    printf 'fuzz: %s: FOUND SOMETHING; from its log:\n' "$target"
    # From the finding on, without the thousands of lines of progress before it; or the end, when it died otherwise.
    sed -nE '/panicked at|^==[0-9]+==.*ERROR|^ALARM/,$p' "$log" | grep . || tail -n 40 "$log"
    return 1
  fi
}

# Two at a time, for two cores.
failed=()
while [ $# -gt 0 ]; do
  pair=("${@:1:2}")
  shift ${#pair[@]}
  pids=()
  for target in "${pair[@]}"; do
    run "$target" >"$work/$target.report" &
    pids+=($!)
  done
  for i in "${!pair[@]}"; do
    wait "${pids[$i]}" || failed+=("${pair[$i]}")
    cat "$work/${pair[$i]}.report"
  done
done
[ ${#failed[@]} -eq 0 ] || { printf 'fuzz: failed: %s\n' "${failed[*]}" >&2; exit 1; }
