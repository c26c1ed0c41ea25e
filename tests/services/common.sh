# Sourced by the scripts of this folder: where services live, how they fail, and their certificates.
# Settings (environment): MONMON_SERVICES_DIR, the folder of all their data (default: target/services of this checkout).
set -euo pipefail
umask 022

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SERVICES=$(realpath -m "${MONMON_SERVICES_DIR:-$HERE/../../target/services}")

die() { echo "$(basename "$0"): $*" >&2; exit 1; }
# The comment at a script's top is its manual.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; exit 2; }
need() { command -v "$1" >/dev/null || die "\`$1\` is missing: run \`cargo xtask doctor --install\`"; }
rss_mib() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$1/status"; }

# Whoever calls has made sure that our own server is down; but a process that was killed a moment ago may hold its ports
# a little longer.
PORT_SECONDS=5
port_is_free() {
  for _ in $(seq $((PORT_SECONDS * 10))); do
    (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null || return 0
    sleep 0.1
  done
  die "port $1 is taken by another program: stop it, or choose another port with $2"
}

# certificates FOLDER CLIENT: once, as PEM: a CA, and for server and client a key (PKCS#8) with a certificate.
# CLIENT is the client certificate's common name, which PostgreSQL takes for the user.
certificates() {
  local folder=$1 client=$2 who name extension
  if [ -f "$folder/done" ]; then return; fi
  need openssl
  mkdir -p "$folder"
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=monmon test CA" \
    -keyout "$folder/ca.key" -out "$folder/ca.pem" 2>/dev/null
  for who in server client; do
    name=localhost extension="subjectAltName=DNS:localhost,IP:127.0.0.1"
    if [ "$who" = client ]; then name=$client extension="extendedKeyUsage=clientAuth"; fi
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" \
      -keyout "$folder/$who.key" -out "$folder/$who.csr" 2>/dev/null
    openssl x509 -req -in "$folder/$who.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -CAcreateserial \
      -days 3650 -extfile <(echo "$extension") -out "$folder/$who.pem" 2>/dev/null
  done
  touch "$folder/done"
}
