#!/usr/bin/env bash
# Runs the checks of test/fresh/<PLAN>.sh in a bare Debian, over a copy of this checkout: shows what a set-up step forgets,
# since nothing is installed there but apt.
#   sudo test/fresh/run.sh bookworm|trixie install|suites
# The machine is a chroot with mounts, processes and network of its own (slirp4netns, the packages' way out), so that a server
# in it meets none on this host, and all of it is gone when its first process ends, however this script ends. The kernel is
# the host's. Prints 'ok: …' or 'not ok: …' for each check; status 0 when all are ok.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
release=${1:?bookworm or trixie} plan=${2:?install or suites}
[ -f "test/fresh/$plan.sh" ] || { echo "no such plan: $plan" >&2 && exit 2; }
[ "$(id -u)" = 0 ] || { echo "this needs root" >&2 && exit 1; }
cache=${BHATTI_FRESH_DIR:-/var/cache/bhatti-test}
mkdir -p "$cache"
chmod 0700 "$cache"

# Roots whose script was killed.
for old in "$cache"/root-*; do
  [ ! -d "$old" ] || [ -d "/proc/${old##*-}" ] || rm -rf --one-file-system "$old"
done
root=$cache/root-$release-$plan-$$
machine='' slirp=''
clean() {
  trap - EXIT
  # shellcheck disable=SC2086
  [ -z "$machine$slirp" ] || kill -KILL $machine $slirp 2>/dev/null || true
  { wait || true; } 2>/dev/null
  rm -rf --one-file-system "$root"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The bare system: apt, the certificates that it needs to reach a mirror, sudo; made once a day.
tar=$cache/$release.tar
exec 9>"$tar.lock"
flock 9
if [ -z "$(find "$tar" -mmin -1440 2>/dev/null)" ]; then
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,sudo "$release" "$tar.part.tar"
  mv "$tar.part.tar" "$tar"
fi
flock -u 9
mkdir -p "$root"
tar -C "$root" --numeric-owner --exclude='./dev/*' -xf "$tar"

# It lives for minutes: no package needs to survive a power cut.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"

# What this host's clients of apt, npm and Go are told, so that those of the bare system reach the same registries.
give() { # FILE…: to the same place in the machine
  local file
  for file in "$@"; do
    [ -f "$file" ] || continue
    mkdir -p "$root$(dirname "$file")"
    cp -L "$file" "$root$file"
  done
}
mapfile -t apt < <(grep -lsE '^ *Acquire' /etc/apt/apt.conf /etc/apt/apt.conf.d/*)
give "${apt[@]}" /etc/apt/auth.conf /etc/apt/auth.conf.d/* /etc/npmrc ~/.npmrc ~/.config/go/env /etc/hosts \
  /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates/*
settings=()
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY GOPROXY GOSUMDB GONOSUMDB GOFLAGS SSL_CERT_FILE \
  NODE_EXTRA_CA_CERTS NPM_CONFIG_REGISTRY npm_config_registry npm_config_cafile; do
  [ -z "${!name:-}" ] || settings+=("$name=${!name}")
done
echo "nameserver 192.168.231.3" >"$root/etc/resolv.conf"

# The files of this checkout, not what was built or installed in it.
files() {
  if git -c safe.directory='*' rev-parse --git-dir >/dev/null 2>&1; then
    git -c safe.directory='*' ls-files -z --cached --others --exclude-standard
  else
    find . -type f -not -path './node_modules/*' -not -path './dist/*' -print0
  fi
}
mkdir -p "$root/root/src"
files | while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  tar --null -T - -cf - | tar -C "$root/root/src" -xf -

export root
# The parent of the machine's first process is in the new network as well: slirp4netns finds it by the parent's pid.
# Both end with this script, even if it is killed.
setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child bash -euc '
  # Nodes of its own: what a program does to /dev/null in there is not done to the host.
  devices() {
    mount -t tmpfs -o mode=0755 dev "$root/dev"
    cd "$root/dev"
    for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
      IFS=: read -r name major minor <<<"$node"
      mknod -m 0666 "$name" c "$major" "$minor"
    done
    mkdir -p net pts shm
    mknod -m 0666 net/tun c 10 200
    [ ! -e /dev/kvm ] || mknod -m 0660 kvm c 10 232
    mknod -m 0660 loop-control c 10 237
    for n in $(seq 0 127); do mknod -m 0660 "loop$n" b 7 "$n"; done
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 pts pts
    mount -t tmpfs -o mode=1777 shm shm
    ln -s pts/ptmx ptmx
    ln -s /proc/self/fd fd
    for n in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${n%:*}" "${n#*:}"; done
    cd /
  }
  until ip route show default | grep -q .; do sleep 0.1; done
  ip link set lo up
  mount --make-rprivate /
  mount --bind "$root" "$root"
  devices
  mount -t proc proc "$root/proc"
  mount -t sysfs sys "$root/sys"
  for dir in run tmp; do mount -t tmpfs "$dir" "$root/$dir"; done
  chmod 1777 "$root/tmp"
  mkdir -p "$root/run/lock"
  exec chroot "$root" /usr/bin/env -i HOME=/root CI=true TERM=dumb \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
' machine "${settings[@]}" bash "/root/src/test/fresh/$plan.sh" </dev/null &
machine=$!
until [ "$(readlink "/proc/$machine/ns/net")" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.1; done
setpriv --pdeathsig KILL slirp4netns --configure --mtu=65520 --cidr=192.168.231.0/24 "$machine" tap0 >"$root/slirp.log" 2>&1 &
slirp=$!
status=0
wait "$machine" || status=$?
machine=''
exit $status
