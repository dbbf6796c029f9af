package boot

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, fs string
	flags              uintptr
	data               string
}

// early is needed to find the disk; it moves along into the root file system.
var early = []mount{
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
}

// late is mounted inside the root file system.
var late = []mount{
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666"},
	{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
}

func (m mount) do() error {
	if err := makeDir(m.target); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fs, m.flags, m.data); err != nil && err != unix.EBUSY {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

// makeDir makes sure that path is a directory; an image's link or file of that name makes way.
func makeDir(path string) error {
	info, err := os.Lstat(path)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		_ = os.Remove(path)
	}
	return os.MkdirAll(path, 0o755)
}

// switchRoot makes newRoot the root of this process and all that follow (the way of util-linux' switch_root: pivot_root
// does not work on the initramfs), and frees the files of the initramfs.
func switchRoot(newRoot string) error {
	for _, m := range early {
		target := filepath.Join(newRoot, m.target)
		if err := makeDir(target); err != nil {
			return err
		}
		if err := unix.Mount(m.target, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m.target, err)
		}
	}
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	empty("/", newRoot)
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// empty removes the files of the initramfs: they are memory. Mount points are left, whatever is mounted on them,
// and our own executable, which is in memory anyway.
func empty(dir, except string) {
	var own, st unix.Stat_t
	if unix.Lstat("/", &own) != nil {
		return
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if path == except || path == ownBinary || unix.Lstat(path, &st) != nil || st.Dev != own.Dev {
			continue
		}
		if e.IsDir() {
			empty(path, except)
		}
		_ = os.Remove(path)
	}
}
