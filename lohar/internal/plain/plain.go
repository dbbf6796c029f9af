// Package plain reads files that the agent needs and guests can replace by anything: whatever lies there, reading it neither
// blocks nor takes more memory than it may.
package plain

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

var (
	// ErrKind is told of a FIFO, device, socket or folder.
	ErrKind = errors.New("is no regular file")
	// ErrLarge is told with the beginning of a file that goes on.
	ErrLarge = errors.New("is too large")
)

// Read returns the content of a regular file, following links; of a longer one the first limit bytes and ErrLarge.
func Read(path string, limit int) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, &os.PathError{Op: "read", Path: path, Err: err} }
	var st unix.Stat_t
	// A device may do something when it is opened.
	if err := unix.Stat(path, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(ErrKind)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(ErrKind)
	}
	// Files of /proc say that they have 0 bytes. Not os.File: it would wait for those that have nothing to say yet.
	var b []byte
	part := make([]byte, min(max(int(st.Size), 4096)+1, limit+1, 64<<10))
	for {
		n, err := unix.Read(fd, part)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fail(err)
		case n == 0:
			return b, nil
		}
		b = append(b, part[:n]...)
		if len(b) > limit {
			return b[:limit], &os.PathError{Op: "read", Path: path, Err: ErrLarge}
		}
	}
}
