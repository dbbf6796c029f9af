#!/usr/bin/env bash
# Sets up a bhatti server on this machine, or repairs it: safe to run again.
#
#   sudo ./install.sh [--storage DIR] [--no-loopback] [--distro debian|ubuntu] [--listen ADDR:PORT] [--memory-pool SIZE]
#                     [--firecracker DIR|release]
#   sudo ./install.sh --uninstall [--purge]
set -euo pipefail
from=$PWD
cd "$(dirname "$(readlink -f "$0")")"
LOG=${BHATTI_INSTALL_LOG:-/var/log/bhatti-install.log}
# shellcheck source=packaging/lib.sh
. packaging/lib.sh

usage() {
  cat <<'TEXT'
usage: sudo ./install.sh [options]

  --storage DIR      where the data's loopback file goes (default /var/lib)
  --memory-pool SIZE the reserve for guest memory, allocated (default: the host's memory and a quarter, at most a
                     quarter of the free disk), e.g. 32G
  --no-loopback      use /var/lib/bhatti as it is, even without reflink
  --firecracker DIR  install Firecracker and its jailer from this folder; `release` instead of a folder downloads the
                     release that this version is made for. Used with 'engine: firecracker' in the configuration
  --distro NAME      what the minimal image is made of: debian (13, default) or, untested, ubuntu (24.04)
  --listen ADDR      address of the API (default 127.0.0.1:8080)
  --uninstall        remove the server; data, users and configuration stay
  --purge            with --uninstall: remove them as well
  --yes              ask nothing (nothing is asked but for --purge on a terminal)
TEXT
}

setup_args=()
uninstall=0 purge=0 yes=0 firecracker=""
while [ $# -gt 0 ]; do
  case "$1" in
    --storage | --distro | --listen | --memory-pool)
      [ $# -ge 2 ] || die "$1 needs a value"
      case "$1=$2" in
        --distro=debian | --distro=ubuntu) ;;
        --distro=*) die "--distro is debian or ubuntu, not '$2'" ;;
        --memory-pool=*)
          [[ $2 =~ ^[0-9]+[A-Za-z]*$ ]] || die "--memory-pool takes a size such as 64G, not '$2'"
          ;;
      esac
      setup_args+=("$1" "$2")
      shift
      ;;
    --firecracker)
      [ $# -ge 2 ] || die "$1 needs a folder, or the word release"
      firecracker=$2
      if [ "$2" != release ]; then
        firecracker=$(cd "$from" && readlink -e -- "$2") ||
          die "--firecracker: there is no folder $2" "a folder with firecracker and jailer, or the word release"
        compgen -G "$firecracker/firecracker*" >/dev/null || die "--firecracker: $2 has no firecracker"
      fi
      shift
      ;;
    --no-loopback) setup_args+=("$1") ;;
    --uninstall) uninstall=1 ;;
    --purge) purge=1 ;;
    --yes | -y) yes=1 ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die "unknown option $1" "./install.sh --help" ;;
  esac
  shift
done
need_root "${setup_args[@]}"

if [ "$uninstall" = 1 ]; then
  # An earlier --uninstall left the data and took the program away: then the one that was built here deletes it.
  program=/usr/local/bin/bhatti
  if [ ! -x "$program" ]; then
    if [ "$purge" = 0 ] || [ ! -e /etc/bhatti ]; then
      say "bhatti is not installed"
      exit 0
    fi
    program=$PWD/dist/bhatti
    [ -x "$program" ] || die "the program that deletes the data is not built here" \
      "run ./install.sh once more, then ./install.sh --uninstall --purge"
  fi
  if [ "$purge" = 1 ] && [ "$yes" = 0 ] && [ -t 0 ]; then
    read -r -p "Delete all sandboxes, snapshots, users and keys? [y/N] " answer
    [ "$answer" = y ] || die "nothing was changed"
  fi
  args=()
  [ "$purge" = 1 ] && args+=(--purge)
  "$program" host uninstall "${args[@]}"
  rm -f /usr/local/bin/bhatti
  rm -rf /usr/local/lib/bhatti
  if [ "$purge" = 1 ]; then
    rm -f "$LOG"
    say "bhatti is removed"
  else
    say "bhatti is removed; data, users and configuration stay (./install.sh --uninstall --purge deletes them)"
  fi
  exit 0
fi

(umask 077 && : >"$LOG")
chmod 0600 "$LOG"
started=$SECONDS status=0
trap 'status=$?; [ $status -eq 0 ] || printf "error: installation stopped; details in %s\n" "$LOG" >&2' EXIT
step() { say "[$1/4] $2"; }
check_system
step 1 "packages"
install_programs product
refresh_lists
step 2 "toolchains (Bun, Go)"
install_go
install_bun
step 3 "build"
build_all
give_back
if ! cmp -s dist/bhatti /usr/local/bin/bhatti; then
  install -m 0755 dist/bhatti /usr/local/bin/.bhatti.new
  mv -f /usr/local/bin/.bhatti.new /usr/local/bin/bhatti
fi
if [ -n "$firecracker" ]; then
  args=("$firecracker")
  [ "$firecracker" != release ] || args=()
  bun packaging/firecracker.ts "${args[@]}" 2>&1 | tee -a "$LOG" || die "Firecracker was not installed"
fi
step 4 "server"
/usr/local/bin/bhatti host setup "${setup_args[@]}" 2>&1 | tee >(sed 's/bht_[0-9a-f]*/bht_…/' >>"$LOG")
say "
Installed in $((SECONDS - started)) s. Log: $LOG"
