#!/bin/bash
# Run once by the MariaDB image, on a new volume: the proxy's own account, with the rights that `switchover check` asks for.
# A standby needs more: `switchover init --print`.
set -euo pipefail
mariadb -uroot -p"$MARIADB_ROOT_PASSWORD" <<SQL
CREATE USER switchover@'%' IDENTIFIED BY '${CONTROL_PASSWORD//\'/\'\'}';
GRANT SELECT, PROCESS, CONNECTION ADMIN, SHOW VIEW, EVENT, TRIGGER ON *.* TO switchover@'%';
SQL
