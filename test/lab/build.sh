#!/usr/bin/env bash
# Builds the lab's disk: Debian 13 with systemd, cgroup v2 and what the product and its suites call. Usage: build.sh DIR STAMP
# Leaves in DIR: root/ (its QEMU runs the lab, by chroot), disk.qcow2, vmlinuz, initrd.img, key. Finished when `built` holds STAMP.
set -euo pipefail
umask 077
dir=$1 stamp=$2
[ "$(cat "$dir/built" 2>/dev/null)" != "$stamp" ] || exit 0
mkdir -p "$dir"
rm -rf --one-file-system "$dir/root" "$dir"/*.part* "$dir"/{key,key.pub,state,built}
packages=linux-image-cloud-amd64,systemd-sysv,udev,openssh-server,netbase,qemu-utils
while read -r kind package _; do
  case $kind:$package in
    product:* | test:*) [ "$package" = shellcheck ] || packages+=,$package ;;
  esac
done <"$(dirname "$0")/../../packaging/programs.txt"
echo "lab: installing Debian 13"
# What mmdebstrap mounts in the root goes with it, however it ends.
unshare --mount mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt='Acquire::Languages none' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' trixie "$dir/root"
root=$dir/root
ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
install -d -m 0700 "$root/root/.ssh"
install -m 0600 "$dir/key.pub" "$root/root/.ssh/authorized_keys"
give() { install -m 0644 /dev/stdin "$root$1"; } # daemons of the lab are not root
echo lab | give /etc/hostname
give /etc/systemd/network/10-lab.network <<'NET'
[Match]
Name=en* eth*
[Network]
DHCP=ipv4
NET
# QEMU's user network answers DNS here.
rm -f "$root/etc/resolv.conf"
echo "nameserver 10.0.2.3" | give /etc/resolv.conf
printf 'kvm_amd\nloop\noverlay\nbtrfs\nxfs\ntun\n' | give /etc/modules-load.d/lab.conf
chroot "$root" systemctl --quiet enable systemd-networkd ssh
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer \
  e2scrub_all.timer fstrim.timer
mkdir -p "$root/lab"
cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp "$root"/boot/initrd.img-* "$dir/initrd.img"
echo "lab: making the disk"
mke2fs -q -t ext4 -E lazy_itable_init=0,nodiscard -d "$root" "$dir/disk.part.ext4" 24G
qemu-img convert -O qcow2 "$dir/disk.part.ext4" "$dir/disk.qcow2"
rm "$dir/disk.part.ext4"
printf %s "$stamp" >"$dir/built"
