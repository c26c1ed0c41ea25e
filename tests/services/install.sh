#!/usr/bin/env bash
# Installs Debian packages, as root or through a sudo that asks for no password. No daemon is started and
# PostgreSQL makes no cluster of its own: tests run private servers on private data.
#   install.sh PACKAGE...      of `one|other` the first that this distribution offers is taken
source "$(dirname "$0")/common.sh"

[ $# -gt 0 ] || usage
command -v apt-get >/dev/null || die "no apt-get here: install what stands for these Debian packages by hand: $*"
if [ "$(id -u)" = 0 ]; then as_root=(env)
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n env)
else die "only root can install packages: run \`apt-get install ${*//|*/}\` as root, then try again"; fi

mkdir -p "$SERVICES"
log=$SERVICES/install.log
: >"$log"
# A second apt on the machine is waited for, but not for ever.
apt() {
  "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >>"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "apt-get $1 failed; the whole story is in $log"; }
}
offered() { [ -n "$(apt-cache policy "$1" | awk '/Candidate:/ && $2 != "(none)"')" ]; }

apt update
packages=()
for wanted in "$@"; do
  IFS='|' read -ra choices <<<"$wanted"
  for package in "${choices[@]}"; do offered "$package" && break; done
  packages+=("$package")
done
echo "installing ${packages[*]}"

# Debian asks this file whether a fresh package may start its daemon.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap '"${as_root[@]}" rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin $policy
fi
case " ${packages[*]} " in *" postgresql "*)
  apt install -y --no-install-recommends postgresql-common
  "${as_root[@]}" sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf ;;
esac
apt install -y --no-install-recommends "${packages[@]}"
