#!/bin/bash
# MariaDB's own test suite, with its client side going through the proxy, and what is lost by that.
#
#   PROXY=target/release/switchover tools/mtr.sh OUT [mtr's arguments]
#
#   tools/mtr.sh out/ps --suite=main --ps-protocol          a protocol mode: also --cursor-protocol, --view-protocol, or none
#   tools/mtr.sh out/few main.ssl_connect main.kill,innodb  some tests
#
# Three runs, the later ones short: all tests through the proxy; those that failed straight to the server; those that
# passed there through the proxy once more. What passed straight and failed twice is LOST: printed, and written to OUT/lost
# (the status is 1 when it is not empty). OUT/proxy, OUT/direct and OUT/again hold one line per test (PASS, FAIL or SKIP, a
# tab, the name), OUT/*.log mtr's output with the difference of each failure.
#
#   ROUTING=1   the proxy has a second store (a server of its own), ten groups and a thousand tables, none of which a test
#               uses: everything is classified, and stays at home. What is lost by that only is a fault of classification.
#   WORK=DIR    data, sockets and the proxies' logs (WORK/proxy-PORT*.log); kept. Default: a temporary folder.
#   MINUTES=N   per test (3); tests that time out fail: give more on a busy machine
#   FAST=1      without mtr's checks between tests; tests that print thread ids then fail straight, and so are not compared
#   DIRECT=1    only straight, for a full baseline            MTR_DIR=DIR  where the suite is
#
# mtr starts, restarts and configures its servers as it always does; only `mariadb-test` is replaced by a wrapper
# (mtr_client.py) that rewrites ports and sockets, so that every connection of a test, and of the tools that it calls
# (mariadb, mariadb-dump, mariadb-admin ...), is the proxy's. Needs the distribution's mariadb-test.
# `main` has some 1,100 tests, and a mode of it takes half an hour and more; two runs at a time do not disturb each other.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?where to put the results}"; out=$(realpath "$1")
shift
proxy=${PROXY:-$here/../target/release/switchover}
[ -n "${DIRECT:-}" ] || proxy=$(realpath -e "$proxy") || exit 3
work=${WORK:-$(mktemp -d -t mtr.XXXXXX)} suite=${MTR_DIR:-/usr/share/mysql/mysql-test}
mkdir -p "$work"
[ -e "$suite/mysql-test-run.pl" ] || { echo "mtr.sh: no $suite (package mariadb-test)" >&2; exit 3; }

# mtr finds its tools from its own place: a tree of links with a few files of ours in it
b=$work/base
tree() {
  local share f p real
  share=$(dirname "$suite")
  rm -rf "$b"; mkdir -p "$b/share/mysql" "$b/bin"
  ln -s "$(dirname "$(dirname "$share")")"/{sbin,lib} "$b/"
  ln -s /usr/bin/* "$b/bin/"
  for f in "$share"/*; do [ "$f" = "$suite" ] || ln -s "$f" "$b/share/mysql/"; done
  ln -s mysql "$b/share/mariadb"
  cp -rs "$suite" "$b/share/mysql/mysql-test"
  # `patch`, which makes a result of another one, refuses links
  (cd "$suite" && find . -name '*.result' -print0 | xargs -0 cp --parents --remove-destination -t "$b/share/mysql/mysql-test")
  p=$b/share/mysql/mysql-test/mysql-test-run.pl; cp --remove-destination "$(readlink -f "$p")" "$p"
  real=$(command -v mariadb-test || command -v mysqltest)
  rm -f "$b/bin/mariadb-test" "$b/bin/mysqltest"
  printf '#!/bin/sh\nMTR_REAL=%s exec python3 %s "$@"\n' "$real" "$here/mtr_client.py" >"$b/bin/mariadb-test"
  chmod +x "$b/bin/mariadb-test"; ln -s mariadb-test "$b/bin/mysqltest"
  # the server's port is not the one that clients know
  f=$b/share/mysql/mysql-test/include/write_result_to_file.inc
  cp --remove-destination "$(readlink -f "$f")" "$f"; sed -i 's/`SELECT 1 + @@PORT - $MASTER_MYPORT`/`SELECT 1`/' "$f"
  touch "$b/.done"
}
[ -e "$b/.done" ] || tree

# a second store, for the whole of the run
second=$work/second server=
if [ -n "${ROUTING:-}" ]; then
  [ -d "$second/data/mysql" ] || { mkdir -p "$second"
    mariadb-install-db --no-defaults --datadir="$second/data" --auth-root-authentication-method=normal --skip-test-db \
      --user="$(id -un)" >"$second/log" 2>&1 || { cat "$second/log" >&2; exit 3; }; }
  mariadbd --no-defaults --datadir="$second/data" --socket="$second/sock" --skip-networking --user="$(id -un)" \
    --innodb-buffer-pool-size=8M --pid-file="$second/pid" >>"$second/log" 2>&1 &
  server=$!
  for _ in $(seq 100); do [ -S "$second/sock" ] && break; sleep 0.1; done
  export SECOND_STORE=$second/sock
fi

stop_proxies() {
  local p
  for p in "$work"/proxy-*.pid; do [ -e "$p" ] && kill "$(cat "$p")" 2>/dev/null; rm -f "$p"; done
}
trap 'stop_proxies; [ -z "$server" ] || kill "$server"' EXIT

run() { # results file, the proxy or nothing, mtr's arguments
  local results=$1
  export MTR_WORK=$work PROXY=$2
  shift 2
  (cd "$b/share/mysql/mysql-test" && perl ./mysql-test-run.pl --vardir="$work/var" --force --max-test-fail=0 --retry=0 \
    --nowarnings ${FAST:+--nocheck-testcases} --testcase-timeout="${MINUTES:-3}" --suite-timeout=600 --skip-rpl "$@") >"$results.log" 2>&1
  stop_proxies
  sed -nE "s/^([a-z0-9_-]+\.[A-Za-z0-9_.-]+( '[^']*')?) +(w[0-9]+ )?\[ (pass|fail|skipped|disabled|retry-[a-z]*|exp-fail).*/\4\t\1/p" "$results.log" |
    sed -e 's/^pass/PASS/' -e 's/^fail/FAIL/' -e 's/^skipped/SKIP/' -e 's/^disabled/SKIP/' | sort -u >"$results"
  awk -F'\t' -v r="${results##*/}" '{n[$1]++} END {printf "mtr %s: %d passed, %d failed, %d skipped\n", r, n["PASS"], n["FAIL"], n["SKIP"]}' "$results"
}
names() { # PASS or FAIL, results file: as mtr wants to be told
  sed -nE "s/^$1\t([^ ]+)( '([^']*)')?.*/\1 \3/p" "$2" | sed -e 's/ $//' -e 's/ /,/'
}

if [ -n "${DIRECT:-}" ]; then run "$out/direct" "" "$@"; exit; fi
run "$out/proxy" "$proxy" "$@"
options=()
for a; do case $a in --suite*|--do-test*|--start-from*) ;; --*) options+=("$a") ;; esac; done
: >"$out/direct" >"$out/again" >"$out/lost"
mapfile -t failed < <(names FAIL "$out/proxy")
[ ${#failed[@]} = 0 ] || run "$out/direct" "" "${options[@]}" "${failed[@]}"
mapfile -t passed < <(names PASS "$out/direct")
[ ${#passed[@]} = 0 ] || run "$out/again" "$proxy" "${options[@]}" "${passed[@]}"
names FAIL "$out/again" | sort -u >"$out/lost"
sed 's/^/LOST /' "$out/lost"
[ ! -s "$out/lost" ]
