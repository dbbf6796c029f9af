// Package secrets keeps files whose content must reach no disk: in a tmpfs that is never swapped out, and elsewhere by
// symbolic links into it.
package secrets

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"bhatti/lohar/internal/files"
	"golang.org/x/sys/unix"
)

// Dir is where the files lie.
const Dir = "/run/secrets"

// hidden is the folder in Dir of those that are shown elsewhere: it can be passed, not listed.
const hidden = ".elsewhere"

// File is a secret as a guest's programs see it.
type File struct {
	Path    string
	Content []byte
	Mode    uint32
	Owner   files.Owner
}

// ErrStale says that a later set is in place already.
var ErrStale = errors.New("a later set of secrets is in place")

// Store is the set of secrets of this guest.
type Store struct {
	// Dir differs from the constant in tests.
	Dir string
	// Mount makes Dir a file system in memory; nil = it is one.
	Mount func(dir string) error

	mu         sync.Mutex
	generation uint64
	ready      bool
	have       map[string]struct{} // by Path
}

// Replace makes the set exactly fs; what is not in it any more is removed first, whatever becomes of the rest. generation is
// that of the configure that the set belongs to: what comes late from before a copy was made is refused. Problems are texts
// that name a path, never a content. parents gets
// the folders that have to be made for a link.
func (s *Store) Replace(generation uint64, parents files.Owner, set []File) (problems []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if generation < s.generation {
		return nil, ErrStale
	}
	s.generation = generation
	wanted := map[string]struct{}{}
	for _, f := range set {
		wanted[f.Path] = struct{}{}
	}
	for path := range s.have {
		if _, ok := wanted[path]; ok {
			continue
		}
		if err := s.remove(path); err != nil {
			problems = append(problems, err.Error())
			continue
		}
		delete(s.have, path)
	}
	if len(set) == 0 {
		return problems, nil
	}
	if err := s.prepare(); err != nil {
		return problems, err
	}
	for _, f := range set {
		s.have[f.Path] = struct{}{}
		if err := s.put(f, parents); err != nil {
			problems = append(problems, err.Error())
		}
	}
	return problems, nil
}

func (s *Store) prepare() error {
	if s.ready {
		return nil
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	if s.Mount != nil {
		if err := s.Mount(s.Dir); err != nil {
			return fmt.Errorf("mount %s: %w", s.Dir, err)
		}
	}
	if err := os.Mkdir(filepath.Join(s.Dir, hidden), 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	s.ready, s.have = true, map[string]struct{}{}
	return nil
}

// place is the file that holds the secret of path. It is the same after every boot: a link from before leads to it again.
func (s *Store) place(path string) string {
	if filepath.Dir(path) == s.Dir {
		return path
	}
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(s.Dir, hidden, hex.EncodeToString(sum[:12]))
}

func (s *Store) remove(path string) error {
	place := s.place(path)
	if err := os.Remove(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if leadsTo(path, place) {
		return os.Remove(path)
	}
	return nil
}

// put replaces the content at once: a reader sees the old one or the new one.
func (s *Store) put(f File, parents files.Owner) error {
	place := s.place(f.Path)
	if err := s.write(place, f); err != nil {
		return fmt.Errorf("%s: %w", f.Path, plain(err))
	}
	if place == f.Path || leadsTo(f.Path, place) {
		return nil
	}
	if err := files.MakeParents(filepath.Dir(f.Path), parents); err != nil {
		return fmt.Errorf("%s: %w", f.Path, plain(err))
	}
	if err := os.Symlink(place, f.Path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there already, and no secret's: remove it, or choose another path", f.Path)
		}
		return fmt.Errorf("%s: %w", f.Path, plain(err))
	}
	_ = os.Lchown(f.Path, f.Owner.UID, f.Owner.GID)
	return nil
}

func (s *Store) write(place string, f File) (err error) {
	staging := filepath.Join(s.Dir, hidden, ".new")
	_ = os.Remove(staging)
	out, err := os.OpenFile(staging, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		out.Close()
		if err != nil {
			_ = os.Remove(staging)
		}
	}()
	if _, err = out.Write(f.Content); err != nil {
		return err
	}
	if err = out.Chown(f.Owner.UID, f.Owner.GID); err != nil {
		return err
	}
	if err = unix.Fchmod(int(out.Fd()), f.Mode); err != nil {
		return err
	}
	return os.Rename(staging, place)
}

func leadsTo(link, place string) bool {
	to, err := os.Readlink(link)
	return err == nil && to == place
}

// plain drops the name of our own file from an error.
func plain(err error) error {
	var p *os.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}

// MountTmpfs is the Mount of a guest. A kernel that knows no noswap has no file system that is kept from a swap; there the
// guest's own tmpfs has to do.
func MountTmpfs(dir string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err := unix.Mount("secrets", dir, "tmpfs", flags, "mode=0755,size=4m,noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("secrets", dir, "tmpfs", flags, "mode=0755,size=4m")
	}
	return err
}
