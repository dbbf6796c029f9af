// Package files reads and replaces files of the guest for its owner, as root but as an editor would: links are followed,
// what is no regular file is left alone, and an existing file keeps everything but its content.
package files

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the kernel's own bound (path_resolution(7)).
const maxLinks = 40

// Resolve follows every link of an absolute path by hand, to a path without links whose last part need not exist. The kernel
// refuses root the links of other users in sticky folders (fs.protected_symlinks): that protects programs that were led
// there. Here the owner of the machine named the path.
func Resolve(path string) (string, error) {
	todo := strings.Split(path, "/")
	done := "/"
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			done = filepath.Dir(done)
			continue
		}
		next := filepath.Join(done, name)
		target, err := os.Readlink(next)
		if err != nil { // no link, or nothing at all
			if !os.IsNotExist(err) {
				if _, err := os.Lstat(next); err != nil {
					return "", err
				}
			}
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		}
		if strings.HasPrefix(target, "/") {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done, nil
}

// Open opens path, following links as Resolve does where the kernel does not. Never blocks on a pipe.
func Open(path string, flags int) (int, *unix.Stat_t, error) {
	flags |= unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0)
	if err == unix.EACCES {
		if real, err2 := Resolve(path); err2 == nil {
			fd, err = unix.Open(real, flags|unix.O_NOFOLLOW, 0)
		}
	}
	if err != nil {
		return -1, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	st := new(unix.Stat_t)
	if err := unix.Fstat(fd, st); err != nil {
		unix.Close(fd)
		return -1, nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fd, st, nil
}

// OpenRegular opens a regular file for reading.
func OpenRegular(path string) (*os.File, *unix.Stat_t, error) {
	if kind, err := kindAt(path); err == nil && kind != Regular {
		return nil, nil, &KindError{path, kind} // before it is opened: opening alone moves a tape or resets a watchdog
	}
	fd, st, err := Open(path, unix.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	if kind := KindOf(st.Mode); kind != Regular {
		unix.Close(fd)
		return nil, nil, &KindError{path, kind}
	}
	// Not pollable, but os.NewFile takes a non-blocking descriptor for one that is.
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), st, nil
}

// kindAt is the kind of what path leads to.
func kindAt(path string) (string, error) {
	st, err := Stat(path)
	if err != nil {
		return "", err
	}
	return KindOf(st.Mode), nil
}

// Stat tells about what path leads to.
func Stat(path string) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := unix.Stat(path, st)
	if err == unix.EACCES {
		if real, err2 := Resolve(path); err2 == nil {
			err = unix.Lstat(real, st)
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st, nil
}
