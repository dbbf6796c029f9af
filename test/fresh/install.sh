#!/usr/bin/env bash
# install.sh on a bare Debian: once, again from another folder, by sudo from a user's home, and away again.
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=test/fresh/check.sh
. test/fresh/check.sh

installs() { ./install.sh && grep -q '^      Linux .* x86_64' "$OUT"; }
doctor_finds_no_failure() { bhatti doctor; }
keeps_a_file() { bhatti create kept && bhatti exec kept -- sh -c 'echo precious >/workspace/file'; }
still_there() { [ "$(bhatti exec kept -- cat /workspace/file)" = precious ]; }
# Everything that an installation leaves, but for times of a daemon's start.
state() {
  dpkg-query -W
  find /etc/apt /etc/bhatti /usr/local/bin/bhatti /root/.bhatti /var/lib/bhatti/kernel /var/lib/bhatti/images \
    -type f -printf '%p %m %s ' -exec sha256sum {} ';'
  readlink /var/lib/bhatti/kernel/current
}
changes_nothing() {
  state >/tmp/before
  (cd / && /root/src/install.sh) >/tmp/again.out 2>&1 || { cat /tmp/again.out && return 1; }
  state >/tmp/after
  diff /tmp/before /tmp/after
}
nothing_is_installed() { ! grep -E 'installing|enabling|downloading|building initramfs|creating' /tmp/again.out; }
by_sudo() {
  cd "$CHECKOUT" && as_ann sudo ./install.sh && as_ann bhatti exec kept -- cat /workspace/file
}
checkout_stays_the_users() { [ -z "$(find "$CHECKOUT" ! -user ann -print | head -5 | tee /dev/stderr)" ]; }
left() {
  {
    ip -br link | grep -E '^bh'
    ip netns list
    nft list tables | grep bhatti
    for dir in /proc/[0-9]*; do
      ! readlink "$dir/exe" | grep -qE 'bhatti|lohar|qemu-system' || { echo "$dir" && tr '\0' ' ' <"$dir/cmdline" | cut -c1-300; }
    done
    ls -d /etc/bhatti /var/lib/bhatti /var/lib/bhatti.btrfs /usr/local/bin/bhatti /root/.bhatti /home/ann/.bhatti /var/log/bhatti /run/bhatti
  } 2>/dev/null
}
uninstalls() {
  cp /var/log/bhatti/bhatti.log /tmp/daemon.log
  # In two steps: the data is kept at first, and can be deleted without the program that the first step took away.
  as_ann sudo ./install.sh --uninstall && [ -e /var/lib/bhatti.btrfs ] || return 1
  as_ann sudo ./install.sh --uninstall --purge --yes || return 1
  # A VMM that was told to end may take a moment.
  for _ in 1 2 3 4 5 6 7 8 9 10; do [ -z "$(left)" ] || sleep 1; done
  [ -z "$(left)" ] || { echo "left: $(left)" && tail -5 /tmp/daemon.log && return 1; }
}

must "install.sh" installs
check "doctor finds no failure" doctor_finds_no_failure
check "a sandbox keeps a file" keeps_a_file
check "a second run, from another folder, changes nothing" changes_nothing
check "nothing was installed by it" nothing_is_installed
check "the sandbox is still there" still_there
must "a user with sudo" a_user_with_sudo
check "install.sh by sudo from a path with a space" by_sudo
check "the checkout stays the user's" checkout_stays_the_users
check "uninstall leaves nothing" uninstalls
finish
