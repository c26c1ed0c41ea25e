#!/usr/bin/env bash
# A real PostgreSQL on private data, for tests. TCP on 127.0.0.1 only, TLS offered.
#   postgres.sh start | stop | status    start may be repeated
#   postgres.sh reset                    stops and deletes the data
#   postgres.sh kill                     kill -9 of every server process
#   postgres.sh crash                    immediate stop, as at a power cut; both need a recovery at the next start
#   postgres.sh pause | resume           SIGSTOP | SIGCONT of every server process
#   postgres.sh standby                  a second server that follows the first, asynchronously, at the port PG_PORT + 3
#   postgres.sh standby-stop             from then on it lags
#   postgres.sh failover                 kill of the first; the second is promoted, and has its data folder and its port
#   postgres.sh database NAME            makes a database, owned by app, empty even if it was there
#   postgres.sh psql ARGS...             psql as the superuser, on database test unless -d says otherwise
# Settings (environment): PG_PORT (15432) PG_OPTS (e.g. '-c synchronous_commit=off') PG_BIN
# Users, all with password "secret": postgres (superuser); app (plain or TLS); app_tls (only over TLS); app_cert (only with
# a client certificate, no password). Certificates in the folder tls: ca.pem, client.pem, client.key.
source "$(dirname "$0")/common.sh"

PORT=${PG_PORT:-15432}
DIR=$SERVICES/postgres
TLS=$DIR/tls
READY_SECONDS=120
STOP_SECONDS=60
export PGHOST=127.0.0.1 PGPORT=$PORT PGUSER=postgres PGPASSWORD=secret PGDATABASE=test PGCONNECT_TIMEOUT=5

# Debian keeps the server's programs of each version apart, outside of PATH: the newest is taken.
BIN=${PG_BIN:-$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)}
installed() { [ -n "$BIN" ] && [ -x "$BIN/initdb" ]; }
is_root() { [ "$(id -u)" = 0 ]; }
# The server refuses to run as root.
as_server() { if is_root; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }

# In a checkout under /root, user postgres reaches nothing: then data and log go to a folder of their own in /var/tmp.
place() {
  HOME_DIR=$DIR
  if is_root && ! runuser -u postgres -- test -x "$DIR" 2>/dev/null; then
    HOME_DIR=/var/tmp/monmon-postgres-$(echo "$DIR" | sha256sum | cut -c1-12)
    if [ -e "$HOME_DIR" ] && [ "$(stat -c %U "$HOME_DIR")" != root ]; then die "$HOME_DIR belongs to somebody else"; fi
    mkdir -p "$HOME_DIR"
  fi
  DATA=$HOME_DIR/data
  STANDBY=$HOME_DIR/standby
}
# The postmaster's pid if it runs on our data.
server_pid() {
  local pid
  pid=$(head -n 1 "$DATA/postmaster.pid" 2>/dev/null) || return 1
  [ "$(readlink "/proc/$pid/cwd")" = "$DATA" ] && echo "$pid"
}
server_processes() { echo "$1" $(cat "/proc/$1/task/$1/children"); }

# Once: cluster, certificates, access rules.
init() {
  if [ -f "$DATA/PG_VERSION" ]; then return; fi
  rm -rf "$DATA"
  mkdir -p "$DATA"
  chmod 700 "$DATA"
  local own=(install -m 600)
  if is_root; then chown postgres: "$DATA"; own+=(-o postgres -g postgres); fi
  echo secret >"$HOME_DIR/password" # not <(...): another user may not open that pipe
  # A private server of a test has nothing to lose: its files need not be forced to the disk before it is there.
  as_server "$BIN/initdb" -D "$DATA" -U postgres -A scram-sha-256 --pwfile="$HOME_DIR/password" -E UTF8 \
    --locale=C.UTF-8 --no-sync >"$DIR/initdb.log" 2>&1 ||
    { tail -n 5 "$DIR/initdb.log" >&2; rm -rf "$DATA"; die "initdb failed"; }
  "${own[@]}" "$TLS/server.key" "$DATA/server.key"
  "${own[@]}" "$TLS/server.pem" "$DATA/server.crt"
  "${own[@]}" "$TLS/ca.pem" "$DATA/ca.crt"
  "${own[@]}" /dev/stdin "$DATA/pg_hba.conf" <<'END'
hostnossl   all         app_tls  127.0.0.1/32 reject
hostssl     all         app_cert 127.0.0.1/32 cert
host        all         app_cert 127.0.0.1/32 reject
host        all         all      127.0.0.1/32 scram-sha-256
host        replication all      127.0.0.1/32 scram-sha-256
END
  cat >>"$DATA/postgresql.conf" <<'END'
listen_addresses = '127.0.0.1'
unix_socket_directories = ''       # a socket's path may have at most 107 characters: no socket at all
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
ssl_ca_file = 'ca.crt'
max_connections = 100
shared_buffers = 512MB
max_wal_size = 4GB
min_wal_size = 1GB
checkpoint_timeout = 15min
wal_compression = on
log_line_prefix = '%m [%p] %u@%d '
END
}

# Once, when the server runs.
users() {
  if [ -f "$DATA/users.done" ]; then return; fi
  "$BIN/psql" -qX -d postgres -v ON_ERROR_STOP=1 <<'END'
CREATE ROLE app LOGIN PASSWORD 'secret';
CREATE ROLE app_tls LOGIN PASSWORD 'secret';
CREATE ROLE app_cert LOGIN;
CREATE DATABASE test OWNER app;
GRANT CREATE ON DATABASE test TO app_tls, app_cert;
END
  "$BIN/psql" -qX -c 'GRANT ALL ON SCHEMA public TO PUBLIC'
  touch "$DATA/users.done"
}

# A killed postmaster that nobody has reaped yet makes its postmaster.pid look live: wait until no process works in the
# data folder, then remove that file.
cleared() {
  for _ in $(seq 100); do
    if [ -z "$(find /proc/[0-9]*/cwd -maxdepth 0 -lname "$DATA" 2>/dev/null)" ]; then
      rm -f "$DATA/postmaster.pid"
      return
    fi
    sleep 0.1
  done
  die "processes of an earlier server still run in $DATA"
}

start() {
  installed || die "PostgreSQL is missing: run \`cargo xtask doctor --install\`"
  certificates "$TLS" app_cert
  init
  if ! server_pid >/dev/null; then
    cleared
    port_is_free "$PORT" PG_PORT
    : >>"$HOME_DIR/log"
    if is_root; then chown postgres: "$HOME_DIR/log"; fi
    as_server "$BIN/pg_ctl" start -D "$DATA" -l "$HOME_DIR/log" -w -t $READY_SECONDS -o "-p $PORT ${PG_OPTS:-}" \
      </dev/null >"$DIR/start.log" 2>&1 || { tail -n 10 "$DIR/start.log" "$HOME_DIR/log" >&2; die "did not start"; }
  fi
  users
  echo "postgres: pid $(server_pid), at postgres://app:secret@127.0.0.1:$PORT/test"
}
stop() {
  server_pid >/dev/null || return 0
  signal CONT # a paused one would not hear of it
  as_server "$BIN/pg_ctl" stop -D "$DATA" -m "$1" -w -t $STOP_SECONDS >/dev/null
}
status() {
  local pid
  if pid=$(server_pid) && "$BIN/pg_isready" -q; then
    echo "postgres: up, pid $pid, version $("$BIN/psql" -qXAtc 'show server_version'), at 127.0.0.1:$PORT"
  else echo "postgres: down"; exit 3; fi
}
signal() {
  local pid
  pid=$(server_pid) || die "the server does not run"
  # A process may end on its own between the listing and the signal.
  # shellcheck disable=SC2046 # a list of pids
  kill "-$1" $(server_processes "$pid") 2>/dev/null || true
}
# It takes its data from the running server, and goes on with what that one sends it.
standby() {
  server_pid >/dev/null || die "the server does not run"
  standby_stop
  rm -rf "$STANDBY"
  mkdir "$STANDBY"
  chmod 700 "$STANDBY"
  if is_root; then chown postgres: "$STANDBY"; fi
  as_server "$BIN/pg_basebackup" -D "$STANDBY" -R -X stream -c fast --no-sync >"$DIR/standby.log" 2>&1 ||
    { tail -n 5 "$DIR/standby.log" >&2; die "pg_basebackup failed"; }
  port_is_free $((PORT + 3)) PG_PORT
  serve_standby $((PORT + 3))
}
serve_standby() { # PORT [MORE OPTIONS]
  as_server "$BIN/pg_ctl" start -D "$STANDBY" -l "$HOME_DIR/log" -w -t $READY_SECONDS -o "-p $1 ${PG_OPTS:-} ${2:-}" \
    </dev/null >"$DIR/start.log" 2>&1 || { tail -n 10 "$DIR/start.log" "$HOME_DIR/log" >&2; die "did not start"; }
}
standby_stop() {
  if [ -f "$STANDBY/postmaster.pid" ]; then
    as_server "$BIN/pg_ctl" stop -D "$STANDBY" -m fast -w -t $STOP_SECONDS >/dev/null
  fi
}
failover() {
  [ -d "$STANDBY" ] || die "there is no standby"
  standby_stop
  if server_pid >/dev/null; then signal KILL; cleared; fi
  rm -rf "$DATA"
  mv "$STANDBY" "$DATA"
  STANDBY=$DATA
  # Nobody is left to follow; what answers at the old server's port is itself.
  serve_standby "$PORT" "-c primary_conninfo="
  as_server "$BIN/pg_ctl" promote -D "$DATA" -w -t $READY_SECONDS >/dev/null
}
database() {
  case $1 in *[!a-z0-9_]* | "") die "a database's name has small letters, digits and _" ;; esac
  "$BIN/psql" -qX -d postgres -v ON_ERROR_STOP=1 \
    -c "DROP DATABASE IF EXISTS $1 WITH (FORCE)" -c "CREATE DATABASE $1 OWNER app"
}

mkdir -p "$DIR"
place
case "${1:-}" in
  start)    start ;;
  stop)     stop fast ;;
  crash)    stop immediate ;;
  kill)     if server_pid >/dev/null; then signal KILL; cleared; fi ;;
  pause)    signal STOP ;;
  resume)   signal CONT ;;
  reset)    standby_stop || true; stop immediate; rm -rf "$DATA" "$STANDBY" ;;
  standby)  standby ;;
  standby-stop) standby_stop ;;
  failover) failover ;;
  status)   status ;;
  database) database "${2:-}" 2> >(grep -v 'does not exist, skipping' >&2 || true) ;;
  psql)     shift; exec "$BIN/psql" -X "$@" ;;
  *)        usage ;;
esac
