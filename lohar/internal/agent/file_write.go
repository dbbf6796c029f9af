package agent

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"bhatti/lohar/internal/proto"
	"golang.org/x/sys/unix"
)

type fileWriteRequest struct {
	Path     string  `json:"path"`
	Mode     string  `json:"mode"`
	Size     *int64  `json:"size"`
	UID      *uint32 `json:"uid"`
	MaxBytes int64   `json:"max_bytes"`
}

// fileWrite replaces a file by what the host sends, all or nothing.
func fileWrite(c *conn, r *fileWriteRequest) (any, error) {
	size := int64(-1)
	if r.Size != nil {
		size = *r.Size
	}
	if size < -1 || r.MaxBytes < 0 {
		return nil, fail("bad_request", "size and max_bytes must not be negative (size -1 = unknown)")
	}
	if r.MaxBytes > 0 && size > r.MaxBytes {
		return nil, fail("too_large", "the file is larger than "+strconv.FormatInt(r.MaxBytes, 10)+" bytes")
	}
	in := &dataReader{c: c, size: size, max: r.MaxBytes}
	n, err := c.s.writeFile(r.Path, r.Mode, r.UID, in)
	if err != nil {
		return nil, err
	}
	return map[string]int64{"size": n}, nil
}

// writeFile puts what src yields into path: a temporary file beside it, made durable, then renamed over it. On failure
// nothing is left and the old file is untouched.
func (s *Server) writeFile(path, mode string, uid *uint32, src io.Reader) (n int64, err error) {
	if err := checkPath(path); err != nil {
		return 0, err
	}
	perm, err := parseMode(mode)
	if err != nil {
		return 0, err
	}
	owner := uint32(1000)
	if uid != nil {
		owner = *uid
	}
	identity, credential := s.user(owner)
	chown := func(fd int) error {
		if credential == nil {
			return nil
		}
		return unix.Fchown(fd, int(identity.UID), int(identity.GID))
	}
	path = filepath.Clean(path)
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return 0, fail("is_a_directory", path+" is a directory")
	}
	dir := filepath.Dir(path)
	if err := makeParents(dir, chown); err != nil {
		return 0, err
	}
	temp := filepath.Join(dir, ".bhatti-"+randomName())
	fd, err := unix.Open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, &os.PathError{Op: "create", Path: temp, Err: err}
	}
	f := os.NewFile(uintptr(fd), temp)
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(temp)
		}
	}()
	if n, err = io.CopyBuffer(onlyWriter{f}, src, nil); err != nil {
		return 0, err
	}
	for _, step := range []func() error{
		func() error { return chown(fd) },
		func() error { return unix.Fchmod(fd, perm) }, // after chown, which clears special bits
		f.Sync,
		func() error { return os.Rename(temp, path) },
	} {
		if err = step(); err != nil {
			return 0, err
		}
	}
	return n, syncDir(dir)
}

// onlyWriter hides ReadFrom, which would not see our reader's WriteTo.
type onlyWriter struct{ io.Writer }

func parseMode(mode string) (uint32, error) {
	if mode == "" {
		return 0o644, nil
	}
	perm, err := strconv.ParseUint(mode, 8, 32)
	if err != nil || perm > 0o7777 {
		return 0, fail("bad_request", "mode must be octal, at most 7777")
	}
	return uint32(perm), nil
}

// makeParents creates the missing directories of dir, 0755, and gives only those to the file's owner.
func makeParents(dir string, chown func(fd int) error) error {
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return fail("not_a_directory", dir+" is not a directory")
		}
		return nil
	}
	if !os.IsNotExist(err) {
		return err
	}
	if err := makeParents(filepath.Dir(dir), chown); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if os.IsExist(err) { // somebody else was faster, or it is a dangling link
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				return nil
			}
		}
		return err
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return chown(fd)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && err.(*os.PathError).Err != syscall.EINVAL {
		return err
	}
	return nil
}

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// dataReader yields the DATA frames of a request up to END.
type dataReader struct {
	c    *conn
	size int64 // announced; -1 = unknown
	max  int64 // 0 = no bound
	got  int64
	rest []byte
	end  bool
}

func (r *dataReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo spares the copy through a buffer.
func (r *dataReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err := r.fill(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
		n, err := w.Write(r.rest)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

func (r *dataReader) fill() error {
	if r.end {
		return io.EOF
	}
	f, err := r.c.next()
	if err != nil {
		return err
	}
	switch f.Type {
	case proto.Data:
		r.got += int64(len(f.Payload))
		if r.max > 0 && r.got > r.max {
			return fail("too_large", "more than "+strconv.FormatInt(r.max, 10)+" bytes arrived")
		}
		if r.size >= 0 && r.got > r.size {
			return fail("bad_request", "more bytes arrived than announced")
		}
		r.rest = f.Payload
		return nil
	case proto.End:
		r.end = true
		if r.size >= 0 && r.got != r.size {
			return fail("bad_request", "fewer bytes arrived than announced")
		}
		return io.EOF
	}
	return &protocolError{"frame is not allowed during file.write"}
}
