package agent

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"bhatti/lohar/internal/files"
	"bhatti/lohar/internal/proto"
	"golang.org/x/sys/unix"
)

const (
	// batchBytes is about what a DATA frame of a listing holds: an entry has at most 40 KB in JSON (name and target of odd bytes).
	batchBytes = 64 << 10
	// sortedEntries is up to where a listing is sorted by name: more names are not held in the memory of a small guest.
	sortedEntries = 10_000
)

// fileStat tells what path itself is (a link is not followed).
func fileStat(_ *conn, r *pathRequest) (any, error) {
	path, err := r.path()
	if err != nil {
		return nil, err
	}
	e, err := entryAt(unix.AT_FDCWD, path)
	if err == unix.EACCES { // a link in a sticky folder on the way there
		if dir, err2 := files.Resolve(filepath.Dir(path)); err2 == nil {
			e, err = entryAt(unix.AT_FDCWD, filepath.Join(dir, filepath.Base(path)))
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	e.Name = filepath.Base(path)
	e.NameB64 = raw(e.Name)
	return struct {
		*fileEntry
		IsLink bool `json:"is_link"`
	}{e, e.Kind == files.Symlink}, nil
}

type fileListRequest struct {
	pathRequest
	// Limit of entries, 0 = all.
	Limit int `json:"limit"`
}

// fileList streams a directory of any size in bounded memory, sorted as long as it has at most sortedEntries. Entries that
// vanish meanwhile are left out. Anything else has one entry, named by the path as it was given (ls(1)).
func fileList(c *conn, r *fileListRequest) (any, error) {
	path, err := r.path()
	if err == nil && r.Limit < 0 {
		err = fail("bad_request", "limit must not be negative")
	}
	if err != nil {
		return nil, err
	}
	fd, _, err := files.Open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT) { // a link to nothing is something
		l := &listing{c: c, fd: unix.AT_FDCWD}
		if _, err2 := l.add([]string{path}); err2 != nil {
			return nil, err2
		}
		if l.count == 0 {
			return nil, err
		}
		return l.end()
	}
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(fd), path)
	defer d.Close()
	l := &listing{c: c, fd: fd, limit: r.Limit}
	for first := true; ; first = false {
		size := 1024
		if first {
			size = sortedEntries
		}
		names, err := d.Readdirnames(size)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if first && len(names) < size {
			slices.Sort(names)
		}
		if done, err := l.add(names); done || err != nil {
			if err != nil {
				return nil, err
			}
			break
		}
		if err == io.EOF || len(names) == 0 {
			break
		}
	}
	return l.end()
}

// listing collects entries and sends them in frames.
type listing struct {
	c         *conn
	fd, limit int
	count     int
	truncated bool
	buf       []byte // a JSON array without its end
}

// add sends names; done says that the limit is reached.
func (l *listing) add(names []string) (done bool, err error) {
	for _, name := range names {
		if l.limit > 0 && l.count == l.limit {
			l.truncated = true
			return true, nil
		}
		e, err := entryAt(l.fd, name)
		if err != nil {
			continue
		}
		payload, err := json.Marshal(e)
		if err != nil {
			return false, err
		}
		l.count++
		l.buf = append(append(l.buf, ','), payload...)
		if len(l.buf) >= batchBytes {
			if err := l.flush(); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// end sends what is left and tells what there was.
func (l *listing) end() (any, error) {
	if err := l.flush(); err != nil {
		return nil, err
	}
	if err := l.c.send(proto.End, nil); err != nil {
		return nil, err
	}
	return map[string]any{"count": l.count, "truncated": l.truncated}, nil
}

func (l *listing) flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	l.buf[0] = '[' // in place of the first comma
	err := l.c.send(proto.Data, append(l.buf, ']'))
	l.buf = l.buf[:0]
	return err
}

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
