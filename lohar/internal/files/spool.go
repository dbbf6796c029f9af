package files

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// spool takes what arrives until it is whole: a broken transfer never touches its destination. As a rule it has no name, so
// that whatever dies meanwhile, machine included, leaves nothing behind.
type spool struct {
	f *os.File
	// dir is the folder it can be linked into; empty when it lies elsewhere.
	dir string
	// name it has had to be given; empty = none (O_TMPFILE).
	name string
}

// newSpool makes one in dir, or, if elsewhere, in memory where dir cannot hold one.
func newSpool(dir string, elsewhere bool) (*spool, error) {
	fd, err := unix.Open(dir, unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return &spool{f: os.NewFile(uintptr(fd), dir), dir: dir}, nil
	}
	if err == unix.EOPNOTSUPP || err == unix.EISDIR || err == unix.EINVAL {
		name := filepath.Join(dir, tempName())
		fd, err = unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return &spool{f: os.NewFile(uintptr(fd), name), dir: dir, name: name}, nil
		}
	}
	if elsewhere && !errors.Is(err, unix.ENOSPC) {
		for _, memory := range []string{"/tmp", "/run"} {
			if fd, err := unix.Open(memory, unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600); err == nil {
				return &spool{f: os.NewFile(uintptr(fd), memory)}, nil
			}
		}
	}
	return nil, &os.PathError{Op: "create a file in", Path: dir, Err: err}
}

// link gives the spool the name path, which must be free (EEXIST). path is in its folder.
func (s *spool) link(path string) error {
	if s.name != "" {
		err := unix.Renameat2(unix.AT_FDCWD, s.name, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		if err == nil {
			s.name = ""
		}
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(s.f.Fd())), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
}

// replace puts the spool in the place of path, atomically.
func (s *spool) replace(path string) error {
	if s.name == "" { // only a name can be renamed; it exists for two system calls
		name := filepath.Join(s.dir, tempName())
		if err := s.link(name); err != nil {
			return err
		}
		s.name = name
	}
	err := unix.Rename(s.name, path)
	if err == nil {
		s.name = ""
	}
	return err
}

// pour copies the spool into f, over what is there, with the room for it secured first.
func (s *spool) pour(f *os.File, size int64) error {
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size); err == unix.ENOSPC || err == unix.EDQUOT {
		return &os.PathError{Op: "write", Path: f.Name(), Err: err}
	}
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(f, s.f); err != nil {
		return err
	}
	// Files of /proc and /sys are not to be cut.
	if err := f.Truncate(size); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return err
	}
	return syncFile(f)
}

// close throws away what was not put into its place.
func (s *spool) close() {
	if s.name != "" {
		_ = os.Remove(s.name)
	}
	s.f.Close()
}

// TempPrefix begins the names of unfinished files, 16 hexadecimal digits follow.
const TempPrefix = ".bhatti-"

func tempName() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return TempPrefix + hex.EncodeToString(b[:])
}

// syncFile is fsync where the file system knows it.
func syncFile(f *os.File) error {
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncFile(d)
}
