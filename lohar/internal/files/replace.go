package files

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Options of Replace.
type Options struct {
	// Mode, nil = keep that of an existing file, 0644 for a new one.
	Mode *uint32
	// Owner, nil = keep that of an existing file, NewOwner for a new one.
	Owner *Owner
	// NewOwner also gets the folders that have to be made.
	NewOwner Owner
}

func (o Options) owner(usual Owner) Owner {
	if o.Owner == nil {
		return usual
	}
	return *o.Owner
}

func (o Options) mode(usual uint32) uint32 {
	if o.Mode == nil {
		return usual
	}
	return *o.Mode
}

// Replace makes what src yields the content of the file that path leads to, and returns its size. Missing parents are made,
// 0755. Nothing is changed before src has ended well. Then
//   - a new file appears whole, or not at all;
//   - an existing one of a single name is replaced atomically by one with its owner, mode and xattrs;
//   - one that has further names (hard links), is mounted over, or lies where nothing can be made, is overwritten in place,
//     room for it secured first: only a machine that dies in the midst of this local copy leaves it half written.
func Replace(path string, o Options, src io.Reader) (n int64, err error) {
	if path, err = target(path); err != nil {
		return 0, err
	}
	dir := filepath.Dir(path)
	old, err := existing(path)
	if err != nil {
		return 0, err
	}
	if old == nil {
		if err := MakeParents(dir, o.owner(o.NewOwner)); err != nil {
			return 0, err
		}
	}
	s, err := newSpool(dir, old != nil)
	if err != nil {
		return 0, err
	}
	defer s.close()
	if n, err = io.CopyBuffer(onlyWriter{s.f}, src, nil); err != nil {
		return 0, err
	}
	for range 3 { // again when somebody makes or removes the file at this very moment
		if old == nil {
			err = s.create(path, o)
		} else {
			err = s.overwrite(path, old, o, n)
		}
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT) {
			return n, err
		}
		if old, err = existing(path); err != nil {
			return 0, err
		}
	}
	return n, &os.PathError{Op: "write", Path: path, Err: unix.EAGAIN}
}

// target is where path leads. A magic link of /proc is none that can be followed by hand.
func target(path string) (string, error) {
	real, err := Resolve(path)
	if err != nil {
		return "", err
	}
	var a, b unix.Stat_t
	if unix.Stat(path, &a) == nil && (unix.Lstat(real, &b) != nil || a.Dev != b.Dev || a.Ino != b.Ino) {
		return path, nil
	}
	return real, nil
}

// existing is nil when there is nothing yet.
func existing(path string) (*unix.Stat_t, error) {
	st, err := Stat(path)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if kind := KindOf(st.Mode); kind != Regular {
		return nil, &KindError{path, kind}
	}
	return st, nil
}

// create puts the spool where nothing is.
func (s *spool) create(path string, o Options) error {
	if err := dress(int(s.f.Fd()), o.owner(o.NewOwner), o.mode(0o644), nil); err != nil {
		return &os.PathError{Op: "set owner and mode of", Path: path, Err: err}
	}
	if err := syncFile(s.f); err != nil {
		return err
	}
	if err := s.link(path); err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	return syncDir(s.dir)
}

// overwrite makes the spool's n bytes the content of the file that old describes.
func (s *spool) overwrite(path string, old *unix.Stat_t, o Options, n int64) error {
	owner := o.owner(Owner{int(old.Uid), int(old.Gid)})
	mode := o.mode(old.Mode & 0o7777)
	fd, _, err := Open(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	had, err := xattrs(fd)
	unix.Close(fd)
	if err != nil {
		return &os.PathError{Op: "read the attributes of", Path: path, Err: err}
	}
	if old.Nlink == 1 && s.dir != "" && dress(int(s.f.Fd()), owner, mode, had) == nil {
		if err := syncFile(s.f); err != nil {
			return err
		}
		switch err := s.replace(path); err {
		case nil:
			return syncDir(s.dir)
		case unix.EBUSY, unix.EXDEV, unix.EPERM, unix.EACCES, unix.EROFS: // a mount point, an append-only folder
		default:
			return &os.PathError{Op: "replace", Path: path, Err: err}
		}
	}
	return s.overwriteInPlace(path, owner, mode, had, n)
}

func (s *spool) overwriteInPlace(path string, owner Owner, mode uint32, had []xattr, n int64) error {
	fd, st, err := Open(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if kind := KindOf(st.Mode); kind != Regular {
		return &KindError{path, kind}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		return err
	}
	if err := s.pour(f, n); err != nil {
		return err
	}
	if int(st.Uid) == owner.UID && int(st.Gid) == owner.GID && st.Mode&0o7777 == mode && len(had) == 0 {
		return nil
	}
	if err := dress(fd, owner, mode, had); err != nil {
		return &os.PathError{Op: "set owner and mode of", Path: path, Err: err}
	}
	return syncFile(f)
}

// onlyWriter hides ReadFrom, which would not see our reader's WriteTo.
type onlyWriter struct{ io.Writer }

// MakeParents creates the missing directories of dir, 0755, and gives only those to owner.
func MakeParents(dir string, owner Owner) error {
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return &os.PathError{Op: "create a file in", Path: dir, Err: unix.ENOTDIR}
		}
		return nil
	}
	if !os.IsNotExist(err) {
		return err
	}
	if err := MakeParents(filepath.Dir(dir), owner); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if info, err := os.Stat(dir); err == nil && info.IsDir() { // somebody else was faster
			return nil
		}
		return err
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	if owner.UID < 0 && owner.GID < 0 {
		return nil
	}
	if err := unix.Fchown(fd, owner.UID, owner.GID); err != nil {
		return &os.PathError{Op: "set the owner of", Path: dir, Err: err}
	}
	return syncDir(filepath.Dir(dir))
}
