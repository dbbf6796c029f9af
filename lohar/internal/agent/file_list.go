package agent

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"bhatti/lohar/internal/proto"
	"golang.org/x/sys/unix"
)

type pathRequest struct {
	Path string `json:"path"`
}

type fileEntry struct {
	Name  string `json:"name"`
	Size  int64  `json:"size"`
	Mode  string `json:"mode"`
	IsDir bool   `json:"is_dir"`
	MTime int64  `json:"mtime"`
}

// batchEntries keeps a DATA frame far below its bound: a name has at most 255 bytes, 6 characters each in JSON.
const batchEntries = 128

// fileStat tells what path itself is (a link is not followed).
func fileStat(_ *conn, r *pathRequest) (any, error) {
	if err := checkPath(r.Path); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(r.Path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: r.Path, Err: err}
	}
	return struct {
		fileEntry
		IsLink bool `json:"is_link"`
	}{entry(filepath.Base(r.Path), &st), st.Mode&unix.S_IFMT == unix.S_IFLNK}, nil
}

// fileList streams a directory of any size, unsorted, links not followed. Entries that vanish meanwhile are left out.
func fileList(c *conn, r *pathRequest) (any, error) {
	if err := checkPath(r.Path); err != nil {
		return nil, err
	}
	fd, err := unix.Open(r.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: r.Path, Err: err}
	}
	d := os.NewFile(uintptr(fd), r.Path)
	defer d.Close()
	count := 0
	for {
		names, err := d.Readdirnames(batchEntries)
		if err == io.EOF || err == nil && len(names) == 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		batch := make([]fileEntry, 0, len(names))
		for _, name := range names {
			var st unix.Stat_t
			if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
				batch = append(batch, entry(name, &st))
			}
		}
		if len(batch) == 0 {
			continue
		}
		payload, err := json.Marshal(batch)
		if err != nil {
			return nil, err
		}
		if err := c.send(proto.Data, payload); err != nil {
			return nil, err
		}
		count += len(batch)
	}
	if err := c.send(proto.End, nil); err != nil {
		return nil, err
	}
	return map[string]int{"count": count}, nil
}

func entry(name string, st *unix.Stat_t) fileEntry {
	return fileEntry{name, st.Size, modeString(st.Mode), st.Mode&unix.S_IFMT == unix.S_IFDIR, st.Mtim.Sec}
}
