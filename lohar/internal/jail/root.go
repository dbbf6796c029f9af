package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// buildRoot mounts a small tmpfs that only this namespace sees: the host's libraries read-only, a few devices, the VM's own
// files. It is read-only at the end: the VMM can make no name anywhere, so there is none that root could follow.
func buildRoot(o *options) error {
	const flags = unix.MS_NOSUID | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", o.root, "tmpfs", flags, "size=256k,nr_inodes=256,mode=755"); err != nil {
		return err
	}
	for _, dir := range []string{"/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"} {
		if err := hostPath(o.root, dir); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	for _, name := range append([]string{"null", "zero", "urandom", "random"}, o.devices...) {
		if err := device(filepath.Join(o.root, "dev", name), "/dev/"+name, o.uid, o.gid); err != nil {
			return fmt.Errorf("/dev/%s: %w", name, err)
		}
	}
	if err := bindFiles(o, o.root); err != nil {
		return err
	}
	if o.out != "" {
		flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY)
		if err := bind(o.out, filepath.Join(o.root, "out"), unix.S_IFDIR, flags); err != nil {
			return fmt.Errorf("%s: %w", o.out, err)
		}
	}
	return unix.Mount("", o.root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, "")
}

// bindFiles puts the VM's own files where --bind says, below root.
func bindFiles(o *options, root string) error {
	for _, spec := range o.binds {
		part := strings.Split(spec, ":")
		if len(part) < 2 {
			return fmt.Errorf("bad bind %q", spec)
		}
		flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
		if len(part) > 2 && part[2] == "ro" {
			flags |= unix.MS_RDONLY
		}
		if err := bind(part[0], filepath.Join(root, part[1]), unix.S_IFREG, flags); err != nil {
			return fmt.Errorf("%s: %w", spec, err)
		}
	}
	return nil
}

// hostPath shows a path of the host read-only; symlinks (merged /usr) are copied as such.
func hostPath(root, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	target := filepath.Join(root, path)
	if info.Mode()&os.ModeSymlink != 0 {
		to, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(to, target)
	}
	kind := uint32(unix.S_IFREG)
	if info.IsDir() {
		kind = unix.S_IFDIR
	}
	return bind(path, target, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY)
}

// device makes a node like the host's, for the VMM's user alone: the host's own may be root's.
func device(target, like string, uid, gid int) error {
	var st unix.Stat_t
	if err := unix.Stat(like, &st); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(target, unix.S_IFCHR|0o600, int(st.Rdev)); err != nil {
		return err
	}
	return os.Lchown(target, uid, gid)
}

// bind mounts source, which must be of that kind (S_IFREG, S_IFDIR, S_IFIFO) and no symlink, onto a new target.
func bind(source, target string, kind uint32, flags uintptr) error {
	fd, err := unix.Open(source, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind {
		return errors.New("not of the expected kind of file")
	}
	if kind == unix.S_IFDIR {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
}

func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}
