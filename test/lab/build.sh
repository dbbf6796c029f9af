#!/usr/bin/env bash
# Builds the lab's disk: Debian 13 with systemd, cgroup v2 and what the product's suites call. Usage: build.sh DIR
# Leaves in DIR: root/ (its QEMU runs the lab, by chroot), disk.qcow2, vmlinuz, initrd.img, key. Finished when `built` is there.
set -euo pipefail
umask 077
dir=$1
[ -e "$dir/built" ] && exit 0
mkdir -p "$dir"
rm -rf --one-file-system "$dir/root" "$dir"/*.part "$dir/key" "$dir/key.pub"
packages=linux-image-cloud-amd64,systemd-sysv,udev,kmod,iproute2,nftables,conntrack,procps,qemu-system-x86,qemu-utils,btrfs-progs
packages+=,e2fsprogs,openssh-server,ca-certificates,zstd,xz-utils,lz4,cpio,mmdebstrap,iputils-ping,netbase
echo "lab: installing Debian 13"
mmdebstrap --quiet --variant=minbase --include="$packages" trixie "$dir/root.part.tar"
mkdir "$dir/root"
tar -C "$dir/root" --numeric-owner --exclude='./dev/*' -xf "$dir/root.part.tar"
rm "$dir/root.part.tar"
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
chroot "$root" systemctl --quiet enable systemd-networkd ssh
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer
mkdir -p "$root/lab"
cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp "$root"/boot/initrd.img-* "$dir/initrd.img"
echo "lab: making the disk"
mke2fs -q -t ext4 -d "$root" "$dir/disk.part.ext4" 20G
qemu-img convert -O qcow2 "$dir/disk.part.ext4" "$dir/disk.qcow2"
rm "$dir/disk.part.ext4"
touch "$dir/built"
