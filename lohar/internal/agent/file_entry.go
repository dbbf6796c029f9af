package agent

import (
	"os"
	"unicode/utf8"

	"bhatti/lohar/internal/files"
	"golang.org/x/sys/unix"
)

// pathRequest names a file: by text, or in base64 where its name is not UTF-8.
type pathRequest struct {
	Path    string `json:"path"`
	PathB64 []byte `json:"path_b64"`
}

func (r *pathRequest) path() (string, error) {
	path := r.Path
	if len(r.PathB64) > 0 {
		if path != "" {
			return "", fail("bad_request", "give either path or path_b64")
		}
		path = string(r.PathB64)
	}
	return path, checkPath(path)
}

// fileEntry describes one name. Texts that are not UTF-8 come twice: with replacement characters, and whole in base64.
type fileEntry struct {
	Name      string `json:"name"`
	NameB64   []byte `json:"name_b64,omitempty"`
	Kind      string `json:"kind"`
	Target    string `json:"target,omitempty"` // of a symlink
	TargetB64 []byte `json:"target_b64,omitempty"`
	Size      int64  `json:"size"`
	Mode      string `json:"mode"`
	UID       uint32 `json:"uid"`
	GID       uint32 `json:"gid"`
	Links     uint64 `json:"links"`
	// Device is "major:minor" of a device.
	Device string `json:"device,omitempty"`
	IsDir  bool   `json:"is_dir"`
	MTime  int64  `json:"mtime"`
}

// entryAt describes name in the directory dirfd; a link is not followed.
func entryAt(dirfd int, name string) (*fileEntry, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	e := &fileEntry{
		Name: name, NameB64: raw(name), Kind: files.KindOf(st.Mode), Size: st.Size, Mode: modeString(st.Mode), UID: st.Uid, GID: st.Gid,
		Links: uint64(st.Nlink), IsDir: st.Mode&unix.S_IFMT == unix.S_IFDIR, MTime: st.Mtim.Sec,
	}
	switch e.Kind {
	case files.Symlink:
		if target, err := readlinkAt(dirfd, name); err == nil {
			e.Target, e.TargetB64 = target, raw(target)
		}
	case files.Character, files.Block:
		e.Device = itoa(unix.Major(st.Rdev)) + ":" + itoa(unix.Minor(st.Rdev))
	}
	return e, nil
}

// raw is s where JSON cannot hold it.
func raw(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

func readlinkAt(dirfd int, name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dirfd, name, b)
	if err != nil {
		return "", os.NewSyscallError("readlink", err)
	}
	return string(b[:n]), nil
}
