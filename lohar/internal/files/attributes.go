package files

import (
	"strings"

	"golang.org/x/sys/unix"
)

type xattr struct {
	name  string
	value []byte
}

// xattrs of an open file: ACLs, capabilities, labels, the user's own. A file system without them has none.
func xattrs(fd int) (list []xattr, err error) {
	names, err := grow(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Split(strings.TrimRight(string(names), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value, err := grow(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, xattr{name, value})
	}
	return list, nil
}

// grow calls f with a buffer that is large enough (the kernel's own bound is 64 KiB).
func grow(f func([]byte) (int, error)) ([]byte, error) {
	for size := 1 << 10; ; size *= 8 {
		b := make([]byte, size)
		n, err := f(b)
		if err == unix.ERANGE && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

func setXattrs(fd int, list []xattr) error {
	for _, x := range list {
		if err := unix.Fsetxattr(fd, x.name, x.value, 0); err != nil {
			return err
		}
	}
	return nil
}

// dress gives fd owner, mode and xattrs, in this order: chown clears special bits and capabilities, an ACL holds a mode.
func dress(fd int, o Owner, mode uint32, list []xattr) error {
	if o.UID >= 0 || o.GID >= 0 {
		if err := unix.Fchown(fd, o.UID, o.GID); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	return setXattrs(fd, list)
}
