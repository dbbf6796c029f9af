#!/bin/sh
# Customises the minimal root file system; mmdebstrap calls it with the root as $1.
set -eu
root=$1
in_root() { chroot "$root" "$@"; }

echo 'en_US.UTF-8 UTF-8' >"$root/etc/locale.gen"
in_root locale-gen >/dev/null 2>&1 || true

# The first user: uid 1000, password-less sudo. Ubuntu's archive may bring a uid 1000 of its own.
if in_root getent passwd 1000 >/dev/null 2>&1; then
  in_root userdel -r "$(in_root getent passwd 1000 | cut -d: -f1)" >/dev/null 2>&1 || true
fi
in_root useradd -m -u 1000 -U -s /bin/bash lohar
in_root usermod -aG sudo lohar
echo 'lohar ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/lohar"
chmod 0440 "$root/etc/sudoers.d/lohar"
grep -q '^user_allow_other' "$root/etc/fuse.conf" 2>/dev/null || echo user_allow_other >>"$root/etc/fuse.conf"

install -d -o 1000 -g 1000 "$root/workspace"
install -d "$root/etc/bhatti/resume.d"

# The agent is the init system: a server package must not pull in another one.
cat >"$root/etc/apt/preferences.d/no-systemd" <<'PIN'
Package: systemd systemd-sysv systemd-resolved
Pin: release *
Pin-Priority: -1
PIN
printf '#!/bin/sh\nexit 0\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"

# Of every machine its own, written by the agent.
: >"$root/etc/machine-id"
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
rm -rf "$root/var/lib/apt/lists/"* "$root/var/cache/apt/"*.bin
