package secrets

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bhatti/lohar/internal/files"
	"golang.org/x/sys/unix"
)

var me = files.Owner{UID: os.Getuid(), GID: os.Getgid()}

func lab(t *testing.T) (*Store, string) {
	t.Helper()
	root := t.TempDir()
	return &Store{Dir: filepath.Join(root, "secrets")}, root
}

func replace(t *testing.T, s *Store, set ...File) []string {
	t.Helper()
	for i := range set {
		set[i].Owner = me
		if set[i].Mode == 0 {
			set[i].Mode = 0o400
		}
	}
	problems, err := s.Replace(s.generation, me, set)
	if err != nil {
		t.Fatal(err)
	}
	return problems
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFilesInPlaceAndElsewhere(t *testing.T) {
	s, root := lab(t)
	direct, linked := filepath.Join(s.Dir, "KEY"), filepath.Join(root, "home/.ssh/id")
	if p := replace(t, s, File{Path: direct, Content: []byte("a")}, File{Path: linked, Content: []byte("b"), Mode: 0o440}); len(p) > 0 {
		t.Fatal(p)
	}
	if content(t, direct) != "a" || content(t, linked) != "b" {
		t.Fatal("other contents")
	}
	var st unix.Stat_t
	if unix.Stat(linked, &st) != nil || st.Mode&0o7777 != 0o440 {
		t.Fatalf("%o", st.Mode)
	}
	// What lies outside is a name, not the content.
	if to, err := os.Readlink(linked); err != nil || !strings.HasPrefix(to, s.Dir+"/"+hidden+"/") {
		t.Fatal(to, err)
	}
	if unix.Stat(filepath.Join(s.Dir, hidden), &st) != nil || st.Mode&0o777 != 0o711 {
		t.Fatalf("%o", st.Mode)
	}
}

func TestASetIsTheWholeSet(t *testing.T) {
	s, root := lab(t)
	direct, linked := filepath.Join(s.Dir, "KEY"), filepath.Join(root, "id")
	replace(t, s, File{Path: direct, Content: []byte("a")}, File{Path: linked, Content: []byte("b")})
	open, err := os.Open(linked)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	replace(t, s, File{Path: linked, Content: []byte("new")})
	if _, err := os.Lstat(direct); !os.IsNotExist(err) {
		t.Fatal("a secret that is not given any more is still there")
	}
	if content(t, linked) != "new" {
		t.Fatal("not replaced")
	}
	b := make([]byte, 9)
	if n, _ := open.Read(b); string(b[:n]) != "b" {
		t.Fatal("a reader saw a mixture:", string(b[:n]))
	}
	if p := replace(t, s); len(p) > 0 {
		t.Fatal(p)
	}
	for _, path := range []string{linked, s.place(linked)} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Fatal("left behind:", path)
		}
	}
}

func TestALinkFromBeforeTheBootIsItsOwn(t *testing.T) {
	s, root := lab(t)
	linked := filepath.Join(root, "id")
	replace(t, s, File{Path: linked, Content: []byte("a")})
	if err := os.RemoveAll(s.Dir); err != nil { // memory is gone
		t.Fatal(err)
	}
	again := &Store{Dir: s.Dir}
	if p := replace(t, again, File{Path: linked, Content: []byte("b")}); len(p) > 0 || content(t, linked) != "b" {
		t.Fatal(p)
	}
}

func TestWhatIsTheUsersStays(t *testing.T) {
	s, root := lab(t)
	file, other := filepath.Join(root, "id"), filepath.Join(root, "other")
	_ = os.WriteFile(file, []byte("mine"), 0o600)
	_ = os.Symlink("/etc/passwd", other)
	below := filepath.Join(file, "x")
	fine := filepath.Join(root, "fine")
	problems := replace(t, s, File{Path: file, Content: []byte("s3cr3t")}, File{Path: other, Content: []byte("s3cr3t")},
		File{Path: below, Content: []byte("s3cr3t")}, File{Path: fine, Content: []byte("ok")})
	if len(problems) != 3 || strings.Contains(strings.Join(problems, " "), "s3cr3t") {
		t.Fatal(problems)
	}
	for i, path := range []string{file, other, below} {
		if !strings.HasPrefix(problems[i], path) {
			t.Error(problems[i])
		}
	}
	if content(t, file) != "mine" || content(t, fine) != "ok" {
		t.Fatal("a file of the user's was replaced, or another secret is missing")
	}
	// Once there is room the next set takes it.
	_ = os.Remove(file)
	if p := replace(t, s, File{Path: file, Content: []byte("s")}); len(p) > 0 || content(t, file) != "s" {
		t.Fatal(p)
	}
}

func TestLateSetsAreRefused(t *testing.T) {
	s, _ := lab(t)
	path := filepath.Join(s.Dir, "KEY")
	set := func(generation uint64, text string) error {
		_, err := s.Replace(generation, me, []File{{Path: path, Content: []byte(text), Mode: 0o400, Owner: me}})
		return err
	}
	if err := set(5, "new"); err != nil {
		t.Fatal(err)
	}
	if err := set(4, "old"); !errors.Is(err, ErrStale) || content(t, path) != "new" {
		t.Fatal(err)
	}
	if err := set(5, "newer"); err != nil || content(t, path) != "newer" {
		t.Fatal(err)
	}
}
