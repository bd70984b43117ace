#!/bin/bash
# MariaDB's own test suite, with its client side going through the proxy.
#
#   tools/mtr.sh RESULTS-FILE [mtr's arguments]            straight to the server: the baseline
#   PROXY=BINARY tools/mtr.sh RESULTS-FILE [arguments]     through the proxy
#   tools/mtr.sh --lost DIRECT PROXY                       what passed in the first file and not in the second
#
# mtr starts, restarts and configures its servers as it always does; only `mariadb-test` is replaced by a wrapper that
# rewrites ports and sockets, so that every connection of a test (and of the tools it calls) is the proxy's. One proxy
# per server; its log is WORK/proxy-PORT.log. Arguments are mtr's: --suite=main, --ps-protocol, --parallel=2, test names.
# WORK (default a temporary folder) holds the data; keep it to read logs. Needs the distribution's mariadb-test.
set -uo pipefail
if [ "${1:-}" = --lost ]; then
  comm -23 <(grep ^PASS "$2" | cut -f2 | sort -u) <(grep ^PASS "$3" | cut -f2 | sort -u)
  exit
fi
here=$(cd "$(dirname "$0")" && pwd) results=$(realpath "$1")
shift
work=${WORK:-$(mktemp -d -t mtr.XXXXXX)}
suite=${MTR_DIR:-/usr/share/mysql/mysql-test}
[ -e "$suite/mysql-test-run.pl" ] || { echo "mtr.sh: no $suite (package mariadb-test)" >&2; exit 3; }

# mtr finds its tools from its own place: a tree of links with one file of ours in it
b=$work/base share=$(dirname "$suite")
if [ ! -e "$b/.done" ]; then
  rm -rf "$b"; mkdir -p "$b/share/mysql" "$b/bin"
  ln -s "$(dirname "$(dirname "$share")")"/{sbin,lib} "$b/"
  ln -s /usr/bin/* "$b/bin/"
  for f in "$share"/*; do [ "$f" = "$suite" ] || ln -s "$f" "$b/share/mysql/"; done
  ln -s mysql "$b/share/mariadb"
  cp -rs "$suite" "$b/share/mysql/mysql-test"
  p=$b/share/mysql/mysql-test/mysql-test-run.pl; cp --remove-destination "$(readlink -f "$p")" "$p"
  real=$(command -v mariadb-test || command -v mysqltest)
  rm -f "$b/bin/mariadb-test" "$b/bin/mysqltest"
  printf '#!/bin/sh\nMTR_REAL=%s exec python3 %s "$@"\n' "$real" "$here/mtr_client.py" >"$b/bin/mariadb-test"
  chmod +x "$b/bin/mariadb-test"; ln -s mariadb-test "$b/bin/mysqltest"
  # the server's port is not the one that clients know
  f=$b/share/mysql/mysql-test/include/write_result_to_file.inc
  cp --remove-destination "$(readlink -f "$f")" "$f"; sed -i 's/`SELECT 1 + @@PORT - $MASTER_MYPORT`/`SELECT 1`/' "$f"
  touch "$b/.done"
fi
export MTR_WORK=$work PROXY=${PROXY:-}
cd "$b/share/mysql/mysql-test" || exit 3
rm -f "$work"/proxy-*.pid
perl ./mysql-test-run.pl --vardir="$work/var" --force --max-test-fail=0 --retry=0 --nocheck-testcases --nowarnings \
  --testcase-timeout="${MINUTES:-3}" --suite-timeout=600 --skip-rpl "$@" >"$results.log" 2>&1
for p in "$work"/proxy-*.pid; do [ -e "$p" ] && kill $(cat "$p") 2>/dev/null; done
sed -nE "s/^([a-z0-9_-]+\.[A-Za-z0-9_.-]+( '[^']*')?) +(w[0-9]+ )?\[ (pass|fail|skipped|disabled|retry-[a-z]*|exp-fail).*/\4\t\1/p" "$results.log" |
  sed -e 's/^pass/PASS/' -e 's/^fail/FAIL/' -e 's/^skipped/SKIP/' -e 's/^disabled/SKIP/' | sort -u >"$results"
awk -F'\t' '{n[$1]++} END {printf "mtr: %d passed, %d failed, %d skipped\n", n["PASS"], n["FAIL"], n["SKIP"]}' "$results"
