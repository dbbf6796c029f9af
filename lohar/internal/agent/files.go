package agent

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bhatti/lohar/internal/proto"
	"golang.org/x/sys/unix"
)

const chunk = 256 << 10

type entry struct {
	Name   string `json:"name,omitempty"`
	Size   int64  `json:"size"`
	Mode   string `json:"mode"`
	IsDir  bool   `json:"is_dir"`
	IsLink bool   `json:"is_link"`
	Mtime  int64  `json:"mtime"`
}

func describe(info os.FileInfo) entry {
	return entry{
		Size: info.Size(), Mode: fmt.Sprintf("%04o", info.Mode().Perm()), IsDir: info.IsDir(),
		IsLink: info.Mode()&os.ModeSymlink != 0, Mtime: info.ModTime().Unix(),
	}
}

func checkPath(path string) error {
	if path == "" || !strings.HasPrefix(path, "/") || strings.IndexByte(path, 0) >= 0 {
		return failf(codeBadRequest, "path must be absolute")
	}
	return nil
}

func statFile(_ *conn, payload []byte) (any, error) {
	var r struct{ Path string }
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, failf(codeBadRequest, "%v", err)
	}
	if err := checkPath(r.Path); err != nil {
		return nil, err
	}
	info, err := os.Stat(r.Path)
	if err != nil {
		return nil, err
	}
	return describe(info), nil
}

// listFiles streams a directory of any size.
func listFiles(c *conn, payload []byte) (any, error) {
	var r struct{ Path string }
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, failf(codeBadRequest, "%v", err)
	}
	if err := checkPath(r.Path); err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(r.Path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	count := 0
	for {
		infos, err := dir.Readdir(500)
		batch := make([]entry, 0, len(infos))
		for _, info := range infos {
			e := describe(info)
			e.Name = info.Name()
			batch = append(batch, e)
		}
		count += len(batch)
		if len(batch) > 0 {
			if err := c.sendJSON(proto.Data, batch); err != nil {
				return nil, errGone
			}
		}
		if errors.Is(err, io.EOF) || (err == nil && len(infos) == 0) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if c.send(proto.End, nil) != nil {
		return nil, errGone
	}
	return map[string]int{"count": count}, nil
}

// readFile streams a regular file, a byte range or a range of lines.
func readFile(c *conn, payload []byte) (any, error) {
	var r struct {
		Path       string `json:"path"`
		Offset     int64  `json:"offset"`
		Length     int64  `json:"length"`
		LineOffset int64  `json:"line_offset"`
		LineLimit  int64  `json:"line_limit"`
		MaxBytes   int64  `json:"max_bytes"`
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, failf(codeBadRequest, "%v", err)
	}
	if err := checkPath(r.Path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(r.Path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, failf(codeIsDir, "%s is a directory", r.Path)
	}
	if !info.Mode().IsRegular() {
		return nil, failf(codeBadRequest, "%s is not a regular file", r.Path)
	}
	if r.Offset > 0 {
		if _, err := f.Seek(r.Offset, io.SeekStart); err != nil {
			return nil, err
		}
	}
	var source io.Reader = f
	length := int64(-1)
	switch {
	case r.LineOffset > 0 || r.LineLimit > 0:
		source = lines(f, r.LineOffset, r.LineLimit)
	case r.Length > 0:
		source = io.LimitReader(f, r.Length)
	case r.MaxBytes == 0 && !strings.HasPrefix(r.Path, "/proc/") && !strings.HasPrefix(r.Path, "/sys/"):
		if length = info.Size() - r.Offset; length < 0 {
			length = 0
		}
		source = io.LimitReader(f, length)
	}
	if r.MaxBytes > 0 {
		source = io.LimitReader(source, r.MaxBytes)
	}
	if c.sendJSON(proto.Started, map[string]any{"size": info.Size(), "mode": describe(info).Mode, "length": length}) != nil {
		return nil, errGone
	}
	sent, err := c.copyOut(source)
	if err != nil {
		return nil, err
	}
	if length >= 0 && sent < length {
		return nil, failf(codeIO, "%s became shorter while it was read", r.Path)
	}
	if c.send(proto.End, nil) != nil {
		return nil, errGone
	}
	return map[string]int64{"size": info.Size(), "sent": sent}, nil
}

func (c *conn) copyOut(r io.Reader) (int64, error) {
	buf := make([]byte, chunk)
	var sent int64
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if c.send(proto.Data, buf[:n]) != nil {
				return sent, errGone
			}
			sent += int64(n)
		}
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
}

// lines yields `limit` lines from line `offset` (1-based) on; 0 means from the start, without limit.
func lines(f io.Reader, offset, limit int64) io.Reader {
	in := bufio.NewReaderSize(f, 64<<10)
	pr, pw := io.Pipe()
	go func() {
		line := int64(1)
		for {
			part, err := in.ReadSlice('\n')
			if line >= offset && len(part) > 0 {
				if _, werr := pw.Write(part); werr != nil {
					return
				}
			}
			if bytes.HasSuffix(part, []byte("\n")) {
				if line++; limit > 0 && line >= max64(offset, 1)+limit {
					pw.Close()
					return
				}
			}
			if err != nil && err != bufio.ErrBufferFull {
				if err == io.EOF {
					pw.Close()
				} else {
					pw.CloseWithError(err)
				}
				return
			}
		}
	}()
	return pr
}

func max64(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}

// writeFile replaces a file atomically: temporary file beside it, fsync, rename, fsync of the directory.
func writeFile(c *conn, payload []byte) (any, error) {
	var r struct {
		Path     string `json:"path"`
		Mode     string `json:"mode"`
		Size     int64  `json:"size"`
		UID      *int   `json:"uid"`
		MaxBytes int64  `json:"max_bytes"`
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, failf(codeBadRequest, "%v", err)
	}
	uid := 1000
	if r.UID != nil {
		uid = *r.UID
	}
	w, err := c.s.createFile(r.Path, r.Mode, uid)
	if err != nil {
		return nil, err
	}
	defer w.abort()
	var size int64
	for f := range c.frames {
		switch f.kind {
		case proto.Data:
			if size += int64(len(f.payload)); r.MaxBytes > 0 && size > r.MaxBytes {
				return nil, failf(codeTooLarge, "more than %d bytes", r.MaxBytes)
			}
			if _, err := w.f.Write(f.payload); err != nil {
				return nil, err
			}
		case proto.End:
			if r.Size >= 0 && size != r.Size {
				return nil, failf(codeBadRequest, "%d bytes announced, %d received", r.Size, size)
			}
			if err := w.commit(); err != nil {
				return nil, err
			}
			return map[string]int64{"size": size}, nil
		default:
			return nil, failf(codeBadRequest, "data expected")
		}
	}
	return nil, errGone
}

// fileWriter is a temporary file that becomes the target, or nothing.
type fileWriter struct {
	f        *os.File
	tmp, to  string
	finished bool
}

func (s *Server) createFile(path, mode string, uid int) (*fileWriter, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	perm, err := strconv.ParseUint(mode, 8, 16)
	if mode == "" || err != nil || perm == 0 || perm > 0o7777 {
		perm = 0o644
	}
	path = filepath.Clean(path)
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() {
			return nil, failf(codeIsDir, "%s is a directory", path)
		}
		if !info.Mode().IsRegular() {
			return nil, failf(codeBadRequest, "%s is not a regular file", path)
		}
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
	}
	user := lookup(uid)
	if err := s.makeParents(filepath.Dir(path), user); err != nil {
		return nil, err
	}
	var random [8]byte
	_, _ = rand.Read(random[:])
	tmp := filepath.Join(filepath.Dir(path), ".bhatti-"+hex.EncodeToString(random[:]))
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	w := &fileWriter{f: f, tmp: tmp, to: path}
	if err := unix.Fchmod(int(f.Fd()), uint32(perm)); err != nil {
		w.abort()
		return nil, err
	}
	if s.inGuest {
		if err := f.Chown(int(user.uid), int(user.gid)); err != nil {
			w.abort()
			return nil, err
		}
		_ = unix.Fchmod(int(f.Fd()), uint32(perm)) // chown clears setuid bits
	}
	return w, nil
}

// makeParents creates missing directories for the user.
func (s *Server) makeParents(dir string, user account) error {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		} else if !os.IsNotExist(err) {
			return err
		}
		missing = append(missing, d)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := os.Mkdir(missing[i], 0o755); err != nil && !os.IsExist(err) {
			return err
		}
		if s.inGuest {
			_ = os.Lchown(missing[i], int(user.uid), int(user.gid))
		}
	}
	return nil
}

func (w *fileWriter) commit() error {
	if err := w.f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(w.tmp, w.to); err != nil {
		return err
	}
	w.finished = true
	if d, err := os.Open(filepath.Dir(w.to)); err == nil {
		_ = d.Sync()
		d.Close()
	}
	return nil
}

// abort removes what was not committed.
func (w *fileWriter) abort() {
	w.f.Close()
	if !w.finished {
		os.Remove(w.tmp)
	}
}
