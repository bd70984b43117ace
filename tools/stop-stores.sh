#!/bin/bash
# Stops the pair of MariaDB servers that the integration tests share (tests/support/keeper.rs), at once.
# Without it they stop by themselves a few seconds after the last test has ended.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

pid_file="${CARGO_TARGET_DIR:-target}/tmp/keeper.pid"
pid=$(cat "$pid_file" 2>/dev/null) || exit 0
tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'keeper::keep' || exit 0
kill -TERM "$pid" 2>/dev/null
for _ in $(seq 100); do
  kill -0 "$pid" 2>/dev/null || exit 0
  sleep 0.1
done
echo "stop-stores: the keeper (pid $pid) is still there" >&2
exit 1
