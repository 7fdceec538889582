#!/usr/bin/env bash
# Plants each bug of planted/*.patch into this tree, one at a time, runs the simulation, and takes the bug out again. Ends with a table:
# what the bug does (the first line of its patch), the invariant that finds it, and the seeds that it took.
# usage: e2e/sim/planted.sh [names...]; SIM_SEEDS says how many seeds each has (300). Not part of CI: each takes a build.
set -uo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)" || exit 1
log=$(mktemp)
planted=
take_out() {
  if [ -n "$planted" ]; then git apply --reverse "$planted" && planted=; fi
}
trap 'take_out; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# Prints "invariant | seeds" of the bug that is planted now.
find_it() {
  if ! cargo test -q -p sim --no-run >"$log" 2>&1; then
    echo 'does not compile |'
    return 1
  fi
  # A run takes half a minute; one that loops for ever says nothing.
  if SIM_SHRINK=0 timeout 300 cargo test -q -p sim --test seeds >"$log" 2>&1; then
    echo '**not found** |'
    return 1
  fi
  local first
  first=$(grep -E '^seed [0-9]+: ' "$log" | sort -t' ' -k2 -n | head -n 1)
  if [ -z "$first" ]; then
    echo 'the run did not end |'
    return 1
  fi
  local seed=${first#seed } what=${first#*: }
  echo "${what%%: *} | $((${seed%%:*} + 1))"
}

missed=0
table='| planted bug | what it does | found by | after seeds |
|--|--|--|--|'
for patch in e2e/sim/planted/*.patch; do
  name=$(basename "$patch" .patch)
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  if git apply "$patch"; then
    planted=$patch
    found=$(find_it) || missed=$((missed + 1))
    take_out || exit 1
  else
    found='does not apply |'
    missed=$((missed + 1))
  fi
  echo "$name: $found" >&2
  table+=$'\n'"| $name | $(head -n 1 "$patch") | $found |"
done
echo "$table"
exit "$((missed > 0))"
