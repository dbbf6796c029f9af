package boot

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// rootDevice is the first disk. The disk's file system starts at its first byte: there is no partition table.
const rootDevice = "/dev/vda"

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	err := unix.Mount(source, target, kind, flags, data)
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	return err
}

// loadModules loads the kernel modules of the initramfs in the order of /modules/order.
func loadModules() error {
	f, err := os.Open("/modules/order")
	if err != nil {
		return err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		m, err := os.Open("/modules/" + s.Text())
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(m.Fd()), "", 0)
		m.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s: %w", s.Text(), err)
		}
	}
	return nil
}

func mountRoot() error {
	for i := 0; ; i++ {
		if _, err := os.Stat(rootDevice); err == nil {
			break
		}
		if i == 5000 {
			return errors.New(rootDevice + " did not appear")
		}
		time.Sleep(time.Millisecond)
	}
	return mount(rootDevice, "/newroot", "ext4", unix.MS_NOATIME, "discard")
}

// switchRoot makes the disk the root. The agent goes on running from the initramfs, whose other files are freed.
func switchRoot() error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := os.MkdirAll("/newroot"+dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(dir, "/newroot"+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	_ = os.RemoveAll("/modules")
	if err := os.Chdir("/newroot"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}

func mountRest() error {
	var first error
	keep := func(err error) {
		if err != nil && first == nil {
			first = err
		}
	}
	keep(mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"))
	keep(mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"))
	keep(mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"))
	keep(mount("cgroup2", "/sys/fs/cgroup", "cgroup2", safe, "nsdelegate"))
	for _, dir := range []string{"/run/lock", "/run/bhatti", "/tmp"} {
		keep(os.MkdirAll(dir, 0o755))
	}
	keep(os.Chmod("/tmp", 0o1777))
	for link, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2", "/dev/ptmx": "pts/ptmx"} {
		if _, err := os.Lstat(link); err != nil {
			keep(os.Symlink(target, link))
		}
	}
	return first
}

// prepareCgroups makes the group of user processes, the one that is frozen before a machine is copied.
func prepareCgroups() error {
	_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpu +memory +io +pids"), 0)
	return os.MkdirAll("/sys/fs/cgroup/user", 0o755)
}
