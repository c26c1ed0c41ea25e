#!/usr/bin/env bash
# A web server with real pages, for the demo: nginx serving the PostgreSQL manual on 127.0.0.1 by HTTP and HTTPS.
#   nginx.sh start | stop | status       start may be repeated
#   nginx.sh reset                       stops and deletes settings, logs and pages
# Settings (environment): NGINX_HTTP_PORT (18080) NGINX_HTTPS_PORT (18443)
# The HTTPS certificate is for localhost and 127.0.0.1, signed by the CA in the folder tls: ca.pem.
source "$(dirname "$0")/common.sh"

HTTP=${NGINX_HTTP_PORT:-18080}
HTTPS=${NGINX_HTTPS_PORT:-18443}
DIR=$SERVICES/nginx
CONF=$DIR/nginx.conf
STOP_SECONDS=10
# Debian keeps it outside of a plain user's PATH.
NGINX=$(PATH=$PATH:/usr/sbin command -v nginx || true)

server_pid() {
  local pid
  pid=$(cat "$DIR/pid" 2>/dev/null) || return 1
  grep -qaF "$CONF" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

# The manual's pages. Their package is only unpacked, not installed: that changes nothing on the machine, and systems
# that are told to leave out documentation would install it empty.
pages() {
  PAGES=$DIR/manual
  if [ -f "$PAGES/index.html" ]; then return; fi
  local work=$DIR/fetch.$$ package
  package=$(apt-cache depends postgresql-doc 2>/dev/null | awk '/Depends:/ { print $2; exit }')
  [ -n "$package" ] || die "apt offers no postgresql-doc: run \`apt-get update\` as root first"
  mkdir -p "$work"
  (cd "$work" && apt-get -q download "$package" >"$DIR/fetch.log" 2>&1 && dpkg-deb -x ./*.deb .) ||
    { tail -n 5 "$DIR/fetch.log" >&2; rm -rf "$work"; die "$package could not be downloaded: run \`apt-get update\` as root first"; }
  rm -rf "$PAGES"
  mv "$work/usr/share/doc/$package/html" "$PAGES"
  rm -rf "$work"
}

configure() {
  # Started by root, workers would change to a user who may not reach this folder.
  local user=""
  if [ "$(id -u)" = 0 ]; then user="user root;"; fi
  cat >"$CONF" <<END
$user
worker_processes 1;
pid $DIR/pid;
error_log $DIR/error.log;
events { worker_connections 1024; }
http {
  types { text/html html; text/css css; image/svg+xml svg; }
  default_type application/octet-stream;
  charset utf-8;
  access_log $DIR/access.log;
  client_body_temp_path $DIR/temp; proxy_temp_path $DIR/temp; fastcgi_temp_path $DIR/temp;
  uwsgi_temp_path $DIR/temp; scgi_temp_path $DIR/temp;
  gzip on;
  server {
    listen 127.0.0.1:$HTTP;
    listen 127.0.0.1:$HTTPS ssl;
    server_name localhost;
    ssl_certificate $DIR/tls/server.pem;
    ssl_certificate_key $DIR/tls/server.key;
    root $PAGES;
  }
}
END
}

start() {
  [ -n "$NGINX" ] || die "\`nginx\` is missing: run \`cargo xtask doctor --install --demo\`"
  mkdir -p "$DIR"
  if ! server_pid >/dev/null; then
    port_is_free "$HTTP" NGINX_HTTP_PORT
    port_is_free "$HTTPS" NGINX_HTTPS_PORT
    pages
    certificates "$DIR/tls" client
    configure
    # It binds its ports before it goes to the background: when this returns, it answers.
    "$NGINX" -c "$CONF" -e "$DIR/error.log" || { tail -n 5 "$DIR/error.log" >&2; die "nginx did not start"; }
  fi
  echo "nginx: pid $(server_pid), at http://127.0.0.1:$HTTP/ and https://127.0.0.1:$HTTPS/"
}
stop() {
  local pid
  pid=$(server_pid) || return 0
  kill -TERM "$pid"
  for _ in $(seq $((STOP_SECONDS * 10))); do
    if ! server_pid >/dev/null; then return; fi
    sleep 0.1
  done
  die "nginx (pid $pid) did not stop within $STOP_SECONDS s"
}

case "${1:-}" in
  start)  start ;;
  stop)   stop ;;
  reset)  stop; rm -rf "$DIR" ;;
  status) if pid=$(server_pid); then echo "nginx: up, pid $pid, at http://127.0.0.1:$HTTP/"; else echo "nginx: down"; exit 3; fi ;;
  *)      usage ;;
esac
