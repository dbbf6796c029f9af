# For the plans: checks with a name and a time, all of them carried out, and the sum as the status.
# shellcheck shell=bash
set -uo pipefail
failures=0
export OUT=/tmp/check.out

# check NAME COMMAND…: at most 20 minutes. The output is shown when it fails.
check() {
  local name=$1 began=$SECONDS status
  shift
  # In a shell of its own, so that functions can be checked as well; its group is ended with it.
  timeout --kill-after=10 1200 bash -c 'eval "$1"; shift; set -uo pipefail; "$@"' check "$(declare -f)" "$@" </dev/null >"$OUT" 2>&1
  status=$?
  if [ $status -eq 0 ]; then
    echo "ok: $name ($((SECONDS - began)) s)"
    return 0
  fi
  failures=$((failures + 1))
  echo "not ok: $name (status $status after $((SECONDS - began)) s)"
  tail -60 "$OUT" | sed 's/^/    /' | cut -c1-300
  for log in /var/log/bhatti-install.log /var/log/bhatti-test/setup.log; do
    [ ! -f "$log" ] || { echo "    --- $log"; tail -25 "$log" | sed 's/^/    /' | cut -c1-300; }
  done
  return 1
}
# As a set-up needs it once: without it nothing after it makes sense.
must() { check "$@" || finish; }
finish() {
  [ $failures -eq 0 ]
  exit
}

# Somebody with sudo, and a checkout of their own in a folder whose name holds a space.
export CHECKOUT='/home/ann/my projects/bhatti'
a_user_with_sudo() {
  useradd -m -s /bin/bash ann && echo 'ann ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/ann &&
    mkdir -p "$CHECKOUT" && cp -a /root/src/. "$CHECKOUT" && rm -rf "$CHECKOUT"/{node_modules,dist} && chown -R ann: /home/ann
}
as_ann() { setpriv --reuid=ann --regid=ann --init-groups env HOME=/home/ann USER=ann "$@"; }
