# Shared by install.sh and test.sh: what has to be on the machine before the project's own programs can run.
# shellcheck shell=bash

export DEBIAN_FRONTEND=noninteractive

# A root shell opened by plain `su` has no sbin; a unit of systemd has no HOME, which Go's cache needs.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" HOME="${HOME:-/root}"

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
  command -v apt-get >/dev/null || die "apt is needed: Debian 12 or Debian 13"
  # shellcheck disable=SC1091
  . /etc/os-release
  case "${ID:-}:${VERSION_ID:-}" in
    debian:12 | debian:13) ;;
    *) say "warning: ${PRETTY_NAME:-this system} is not tested; Debian 12 and 13 are" ;;
  esac
}

# missing_packages KIND…: packages of programs.txt that are not here: a program of theirs is not found or, for data, dpkg
# does not know them.
missing_packages() {
  local kind package programs program
  while read -r kind package programs; do
    [[ " $* " == *" $kind "* ]] || continue
    if [ -z "$programs" ]; then
      [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
    fi
    for program in $programs; do
      type -P "$program" >/dev/null || {
        printf '%s ' "$package"
        break
      }
    done
  done <packaging/programs.txt
}

# install_programs KIND…: what programs.txt lists and this machine lacks.
install_programs() {
  local missing
  missing=$(missing_packages "$@")
  [ -z "$missing" ] && return 0
  # shellcheck disable=SC2086
  install_packages $missing
  missing=$(missing_packages "$@")
  [ -z "$missing" ] || die "still missing after apt-get install: programs of $missing" "PATH is $PATH"
}

# install_packages NAME…: an update of the lists only when it is needed.
install_packages() {
  say "      installing $*"
  if ! apt-get install -y --no-install-recommends "$@" >>"$LOG" 2>&1; then
    apt-get update >>"$LOG" 2>&1 || die "apt-get update failed; see $LOG"
    apt-get install -y --no-install-recommends "$@" >>"$LOG" 2>&1 || die "apt-get install $* failed; see $LOG"
  fi
}

# The guest kernel is chosen from apt's lists; a fresh machine may have none.
refresh_lists() {
  if [ -z "$(apt-cache pkgnames linux-image-6.12 2>/dev/null | head -1)" ]; then
    apt-get update >>"$LOG" 2>&1 || die "apt-get update failed; see $LOG"
  fi
}

# Bun comes with the project's dependencies from the npm registry. npm only downloads: its own Node is whatever the
# distribution has (18 on Debian 12), older than some packages want, so no package's script runs in it, and everything is run
# by Bun later.
install_bun() {
  if [ package-lock.json -nt node_modules/.package-lock.json ] || ! node_modules/.bin/bun --version >/dev/null 2>&1; then
    type -P npm >/dev/null || install_packages nodejs npm
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >>"$LOG" 2>&1 ||
      die "npm ci failed; see $LOG" "the npm registry must be reachable"
    # What the install script of the package bun would do.
    ln -f node_modules/@oven/bun-linux-x64/bin/bun node_modules/bun/bin/bun.exe
    ln -f node_modules/@oven/bun-linux-x64/bin/bun node_modules/bun/bin/bunx.exe
  fi
  PATH="$PWD/node_modules/.bin:$PATH"
  bun --version >>"$LOG" 2>&1 || die "bun does not run; see $LOG"
}

# Any Go from 1.21 on: it fetches the version that lohar/go.mod names from the module proxy, checked against Go's checksum
# database, so that the agent is the same on every distribution. Debian 12 has 1.23 in its backports: they come from the
# mirror that the host already uses.
install_go() {
  export GOTOOLCHAIN=auto
  if ! go_is_new && [ -x /usr/local/go/bin/go ]; then PATH="/usr/local/go/bin:$PATH"; fi
  if ! go_is_new; then
    if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then install_go_of_backports; else install_packages golang-go; fi
    # The distribution's, whatever else is on the path.
    PATH="/usr/bin:$PATH"
    hash -r
  fi
  go_is_new || die "Go 1.21 or later is needed, found: $(GOTOOLCHAIN=local go version 2>&1 | tail -n 1)" \
    "put one on the path of root (any from 1.21 on will do) and run this again"
  (cd lohar && go version) >>"$LOG" 2>&1 ||
    die "Go $(sed -n 's/^go //p' lohar/go.mod) cannot be fetched: $(tail -n 1 "$LOG")" \
      "the Go module proxy (go env GOPROXY) must be reachable"
}

install_go_of_backports() {
  local mirror list=/etc/apt/sources.list.d/bhatti-backports.list
  mirror=$(grep -rhoE '^(URIs:|deb )[^#]*' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
    grep -oE 'https?://[^ ]*debian/?( |$)' | grep -v security | head -1 | tr -d ' ')
  [ -n "$mirror" ] || die "no Debian mirror is configured in /etc/apt"
  say "      enabling bookworm-backports, for Go"
  printf 'deb %s bookworm-backports main\n' "$mirror" >"$list"
  if ! { apt-get update && apt-get install -y --no-install-recommends -t bookworm-backports golang-go; } >>"$LOG" 2>&1; then
    rm -f "$list"
    die "Go cannot be installed from Debian's backports; see $LOG" \
      "put any Go from 1.21 on on the path of root and run this again"
  fi
}

go_is_new() {
  local v
  v=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' go1.21 "$v" | sort -V | head -1)" = go1.21 ]
}

build_all() {
  lohar/build.sh >>"$LOG" 2>&1 || die "the guest agent does not build; see $LOG" "$(last_error)"
  edge/build.sh >>"$LOG" 2>&1 || die "the edge does not build; see $LOG" "$(last_error)"
  bun packaging/build.ts >>"$LOG" 2>&1 || die "the program does not build; see $LOG" "$(last_error)"
}
last_error() { { grep -iE 'error|cannot|not found' "$LOG" || tail -n 1 "$LOG"; } | tail -n 1 | cut -c1-200; }

# set_up KIND…: all that has to be here before a checkout's own programs can run, for the programs of KIND.
set_up() {
  check_system
  install_programs "$@"
  refresh_lists
  install_go
  install_bun
  say "building"
  build_all
  give_back
}

# What was built belongs to whom the checkout belongs to: under sudo that is not root, who would be left with files that
# they cannot remove.
give_back() {
  local owner
  owner=$(stat -c %u:%g .)
  [ "$owner" = 0:0 ] || chown -hR "$owner" node_modules dist
}
