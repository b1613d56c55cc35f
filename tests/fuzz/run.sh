#!/usr/bin/env bash
# Fuzzes every target for so many seconds, from the committed corpus; ends at the first finding.
# Usage: tests/fuzz/run.sh SECONDS [TARGET...]
# New inputs go to tests/fuzz/artifacts/new/TARGET, which is ignored by git. See README.md here.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:?"usage: tests/fuzz/run.sh SECONDS [TARGET...]"}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(parse judge control sealed links text)

command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
# The sanitizer's flags are not stable; on a nightly toolchain this changes nothing.
export RUSTC_BOOTSTRAP=1

for target in "${targets[@]}"; do
    found=tests/fuzz/artifacts/new/$target
    mkdir -p "$found"
    options=(-max_len=2048 -max_total_time="$seconds")
    [ "$target" != parse ] || options+=(-dict=tests/fuzz/parse.dict)
    cargo fuzz run --fuzz-dir tests/fuzz "$target" "$found" "tests/fuzz/corpus/$target" -- "${options[@]}"
done
