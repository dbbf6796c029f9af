# Shared by install.sh and test.sh: what has to be on the machine before the project's own programs can run.
# shellcheck shell=bash

export DEBIAN_FRONTEND=noninteractive

PACKAGES=(qemu-system-x86 qemu-utils iproute2 nftables conntrack btrfs-progs e2fsprogs mmdebstrap cpio kmod zstd lz4
  xz-utils ca-certificates procps tar)

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$1" >&2
  [ -n "${2:-}" ] && printf 'hint:  %s\n' "$2" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || die "this needs root" "sudo $0 $*"
}

check_system() {
  [ "$(uname -m)" = x86_64 ] || die "only x86-64 is supported, this is $(uname -m)"
  command -v apt-get >/dev/null || die "apt is needed: Debian 12, Debian 13 or Ubuntu 24.04"
  # shellcheck disable=SC1091
  . /etc/os-release
  case "${ID:-}:${VERSION_ID:-}" in
    debian:12 | debian:13 | ubuntu:24.04) ;;
    *) say "warning: ${PRETTY_NAME:-this system} is not tested; Debian 12, 13 and Ubuntu 24.04 are" ;;
  esac
}

missing_packages() {
  local p
  for p in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || printf '%s ' "$p"
  done
}

# install_packages NAME…: only those that are missing; an update of the lists only when it is needed.
install_packages() {
  local missing
  missing=$(missing_packages "$@")
  [ -z "$missing" ] && return 0
  say "      installing $missing"
  # shellcheck disable=SC2086
  if ! apt-get install -y --no-install-recommends $missing >>"$LOG" 2>&1; then
    apt-get update >>"$LOG" 2>&1 || die "apt-get update failed; see $LOG"
    # shellcheck disable=SC2086
    apt-get install -y --no-install-recommends $missing >>"$LOG" 2>&1 || die "apt-get install $missing failed; see $LOG"
  fi
}

# The guest kernel is chosen from apt's lists; a fresh machine may have none.
refresh_lists() {
  if [ -z "$(apt-cache pkgnames linux-image-6.12 2>/dev/null | head -1)" ]; then
    apt-get update >>"$LOG" 2>&1 || die "apt-get update failed; see $LOG"
  fi
}

# Bun comes with the project's dependencies from the npm registry.
install_bun() {
  if [ ! -x node_modules/.bin/bun ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    command -v npm >/dev/null || install_packages nodejs npm
    npm ci --no-audit --no-fund >>"$LOG" 2>&1 || die "npm ci failed; see $LOG" "the npm registry must be reachable"
  fi
  PATH="$PWD/node_modules/.bin:$PATH"
  bun --version >>"$LOG" 2>&1 || die "bun does not run; see $LOG"
}

# Go 1.21 or later. Debian 12 has it in its backports: they come from the mirror that the host already uses.
install_go() {
  [ -x /usr/local/go/bin/go ] && PATH="/usr/local/go/bin:$PATH"
  go_is_new && return 0
  install_packages golang-go
  if ! go_is_new && grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
    enable_backports
    apt-get install -y --no-install-recommends -t bookworm-backports golang-go >>"$LOG" 2>&1 ||
      die "Go cannot be installed from the backports; see $LOG"
  fi
  go_is_new || die "Go 1.21 or later is needed, found: $(go version 2>/dev/null)"
}

enable_backports() {
  local mirror
  mirror=$(grep -rhoE '^(URIs:|deb )[^#]*' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
    grep -oE 'https?://[^ ]*debian/?( |$)' | grep -v security | head -1 | tr -d ' ')
  [ -n "$mirror" ] || die "no Debian mirror is configured in /etc/apt"
  say "      enabling bookworm-backports"
  printf 'deb %s bookworm-backports main\n' "$mirror" >/etc/apt/sources.list.d/bhatti-backports.list
  apt-get update >>"$LOG" 2>&1 || die "apt-get update failed; see $LOG"
}

go_is_new() {
  local v
  v=$(go env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' go1.21 "$v" | sort -V | head -1)" = go1.21 ]
}

build_all() {
  lohar/build.sh >>"$LOG" 2>&1 || die "the guest agent does not build; see $LOG" "the Go module proxy must be reachable"
  bun packaging/build.ts >>"$LOG" 2>&1 || die "the program does not build; see $LOG"
}
