// Package identity writes what makes one guest different from another: names, resolver, machine id, SSH host keys.
package identity

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"bhatti/lohar/internal/plain"
	"golang.org/x/sys/unix"
)

// Identity of a guest. Empty Hostname or MachineID = keep.
type Identity struct {
	Hostname  string
	MachineID string
	Resolver  []string
	Search    []string
	// Clone: there is an original, whose SSH host keys must not be shared. A new machine id means the same: the image's
	// keys are in every sandbox of that image.
	Clone bool
}

const (
	maxHosts = 256 << 10
	marker   = "# set by bhatti"
)

// Apply writes the files below root. It is idempotent and leaves unchanged files alone. What cannot be written (a root
// file system that is read-only, full or failing) is covered by a file in memory; a file that is missing then cannot be
// covered, and is a warning.
func (id Identity) Apply(root string) (warnings []string, err error) {
	etc := filepath.Join(root, "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return nil, err
	}
	if id.Clone || id.MachineID != "" && id.MachineID != strings.TrimSpace(readSome(filepath.Join(etc, "machine-id"), 64)) {
		if err := removeHostKeys(root); err != nil {
			if err := coverHostKeys(root); err != nil {
				return nil, fmt.Errorf("the original's SSH host keys: %w", err)
			}
		}
	}
	for _, f := range id.files(etc) {
		err := replaceFile(filepath.Join(etc, f.name), f.data, f.mode)
		if err == nil {
			continue
		}
		if covered := cover(root, f.name, f.data, f.mode); covered != nil {
			warnings = append(warnings, fmt.Sprintf("/etc/%s: %v, and %v", f.name, err, covered))
		}
	}
	return warnings, nil
}

type file struct {
	name string
	data []byte
	mode os.FileMode
}

func (id Identity) files(etc string) (list []file) {
	if id.MachineID != "" {
		list = append(list, file{"machine-id", []byte(id.MachineID + "\n"), 0o444})
	}
	if id.Hostname != "" {
		list = append(list, file{"hostname", []byte(id.Hostname + "\n"), 0o644},
			file{"hosts", hosts(filepath.Join(etc, "hosts"), id.Hostname), 0o644})
	}
	return append(list, file{"resolv.conf", resolvConf(id.Resolver, id.Search), 0o644})
}

// hosts keeps the image's own entries and replaces ours.
func hosts(path, hostname string) []byte {
	var b strings.Builder
	old := readSome(path, maxHosts)
	if !strings.Contains(old, "localhost") {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n")
	}
	for line := range strings.Lines(old) {
		if !strings.HasSuffix(strings.TrimSpace(line), marker) {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	b.WriteString("127.0.1.1\t" + hostname + " " + marker + "\n")
	return []byte(b.String())
}

func resolvConf(servers, search []string) []byte {
	var b strings.Builder
	if len(search) > 0 {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	b.WriteString("options timeout:2 attempts:2\n")
	return []byte(b.String())
}

// readSome is the beginning of a regular file; of anything else nothing.
func readSome(path string, limit int) string {
	b, _ := plain.Read(path, limit)
	return string(b)
}

// replaceFile makes data the content of path. A regular file of one name is written in place: ext4 answers a rename over a
// file with a flush of its blocks (auto_da_alloc, ext4(5)), which costs a clone tens of milliseconds. Anything else, a
// link above all, is replaced by rename and never written through.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	if done, err := overwrite(path, data, mode); done {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".bhatti-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// overwrite reports whether path was a file that it could write to. Never through zero length: that, too, is flushed.
func overwrite(path string, data []byte, mode os.FileMode) (done bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		info, err := os.Lstat(path)
		same := err == nil && info.Mode().IsRegular() && info.Size() == int64(len(data)) && readSome(path, maxHosts) == string(data)
		return same, nil // also on a disk that cannot be written
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return false, nil
	}
	if st.Size == int64(len(data)) {
		old := make([]byte, len(data))
		if _, err := f.ReadAt(old, 0); err == nil && bytes.Equal(old, data) {
			return true, nil
		}
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return true, err
	}
	if st.Size > int64(len(data)) {
		if err := f.Truncate(int64(len(data))); err != nil {
			return true, err
		}
	}
	if os.FileMode(st.Mode).Perm() != mode {
		return true, f.Chmod(mode)
	}
	return true, nil
}

// ValidHostname accepts what a sandbox may be called.
func ValidHostname(s string) bool {
	for i, r := range s {
		if !alphanumeric(r) && (i == 0 || r != '.' && r != '_' && r != '-') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 63
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

func label(s string) bool {
	for _, r := range s {
		if !alphanumeric(r) && r != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
}

// ValidMachineID accepts 32 lower-case hexadecimal digits (machine-id(5)).
func ValidMachineID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// ValidResolver bounds the lists by what libc reads: 3 servers, 6 domains.
func ValidResolver(servers, search []string) bool {
	if len(servers) > 3 || len(search) > 6 {
		return false
	}
	for _, s := range servers {
		if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
			return false
		}
	}
	for _, d := range search {
		if len(d) > 253 {
			return false
		}
		for part := range strings.SplitSeq(d, ".") {
			if !label(part) {
				return false
			}
		}
	}
	return true
}
