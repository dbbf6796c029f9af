package files

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners and mounts: needs root")
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Fatalf("%s holds %q, want %q", dir, names, want)
	}
}

var asRoot = Options{NewOwner: Owner{0, 0}}

func replace(t *testing.T, path, content string, o Options) {
	t.Helper()
	if n, err := Replace(path, o, strings.NewReader(content)); err != nil || n != int64(len(content)) {
		t.Fatal(n, err)
	}
}

func TestAnExistingFileKeepsAllButItsContent(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	path := dir + "/script"
	put(t, path, "old and longer")
	_ = os.Chown(path, 1234, 4321)
	_ = os.Chmod(path, 0o755|os.ModeSetuid)
	_ = unix.Chmod(path, 0o4751)
	for name, value := range map[string]string{"trusted.note": "kept", "security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			t.Skip("no xattrs here:", err)
		}
	}
	check := func() {
		t.Helper()
		st := stat(t, path)
		b := make([]byte, 16)
		n, err := unix.Getxattr(path, "trusted.note", b)
		m, err2 := unix.Getxattr(path, "security.capability", make([]byte, 64))
		if st.Mode&0o7777 != 0o4751 || st.Uid != 1234 || st.Gid != 4321 || err != nil || string(b[:n]) != "kept" || err2 != nil || m != 20 {
			t.Errorf("%o %d:%d %v %v %d", st.Mode, st.Uid, st.Gid, err, err2, m)
		}
	}
	replace(t, path, "new", Options{NewOwner: Owner{1000, 1000}})
	check()
	_ = os.Link(path, dir+"/second") // now in place
	replace(t, path, "newer", Options{NewOwner: Owner{1000, 1000}})
	check()
	if get(t, dir+"/second") != "newer" || stat(t, path).Ino != stat(t, dir+"/second").Ino {
		t.Error("the hard link is cut")
	}
	mode := uint32(0o600)
	replace(t, path, "newest", Options{Mode: &mode, Owner: &Owner{7, -1}})
	if st := stat(t, path); st.Mode&0o7777 != 0o600 || st.Uid != 7 || st.Gid != 4321 {
		t.Errorf("%o %d:%d", st.Mode, st.Uid, st.Gid)
	}
	only(t, dir, "script", "second")
}

func TestNewFilesAndTheirFolders(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	replace(t, dir+"/a/b/file", "x", Options{NewOwner: Owner{1000, 1001}})
	for _, name := range []string{"/a", "/a/b", "/a/b/file"} {
		if st := stat(t, dir+name); st.Uid != 1000 || st.Gid != 1001 {
			t.Errorf("%s: %d:%d", name, st.Uid, st.Gid)
		}
	}
	if st := stat(t, dir+"/a/b/file"); st.Mode&0o7777 != 0o644 {
		t.Errorf("%o", st.Mode)
	}
	if st := stat(t, dir); st.Uid != 0 {
		t.Error("a folder that was there got a new owner")
	}
}

func TestLinksAreWrittenThrough(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/file", "old")
	_ = os.Mkdir(dir+"/sub", 0o755)
	_ = os.Symlink("../file", dir+"/sub/link")
	_ = os.Symlink(dir+"/sub/link", dir+"/twice")
	_ = os.Symlink("made", dir+"/dangling")
	_ = os.Symlink("round", dir+"/round")
	replace(t, dir+"/twice", "new", Options{NewOwner: Owner{-1, -1}})
	replace(t, dir+"/dangling", "made", Options{NewOwner: Owner{-1, -1}})
	if get(t, dir+"/file") != "new" || get(t, dir+"/made") != "made" || KindOf(stat(t, dir+"/twice").Mode) != Symlink {
		t.Error("not through the link")
	}
	if _, err := Replace(dir+"/round", asRoot, strings.NewReader("")); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
}

// fs.protected_symlinks keeps root from following what others have put into a sticky folder.
func TestLinksInStickyFolders(t *testing.T) {
	needRoot(t)
	if b, _ := os.ReadFile("/proc/sys/fs/protected_symlinks"); string(b) != "1\n" {
		t.Skip("fs.protected_symlinks is off")
	}
	dir := t.TempDir()
	sticky := dir + "/sticky"
	_ = os.Mkdir(sticky, 0o777)
	_ = unix.Chmod(sticky, 0o1777)
	put(t, dir+"/file", "old")
	_ = os.Symlink(dir+"/file", sticky+"/link")
	_ = os.Symlink(dir, sticky+"/folder")
	for _, name := range []string{"link", "folder"} {
		_ = os.Lchown(sticky+"/"+name, 1000, 1000)
		_ = os.Lchown(sticky, 1001, 1001)
	}
	if _, err := os.ReadFile(sticky + "/link"); !os.IsPermission(err) {
		t.Fatal("the kernel does not protect here:", err)
	}
	for _, path := range []string{sticky + "/link", sticky + "/folder/file"} {
		replace(t, path, "through "+path, asRoot)
		f, _, err := OpenRegular(path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(f)
		f.Close()
		if string(b) != "through "+path || get(t, dir+"/file") != string(b) {
			t.Errorf("%q", b)
		}
	}
	only(t, sticky, "folder", "link")
}

func TestOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	_ = syscall.Mkfifo(dir+"/fifo", 0o666)
	l, err := net.Listen("unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_ = os.Mkdir(dir+"/dir", 0o755)
	_ = os.Symlink("fifo", dir+"/link")
	before := stat(t, "/dev/null")
	for path, kind := range map[string]string{"/dev/null": Character, dir + "/fifo": FIFO, dir + "/socket": Socket, dir + "/dir": Directory, dir + "/link": FIFO} {
		var refused *KindError
		if _, err := Replace(path, asRoot, strings.NewReader("x")); !errors.As(err, &refused) || refused.Kind != kind {
			t.Errorf("write %s: %v", path, err)
		}
		if _, _, err := OpenRegular(path); !errors.As(err, &refused) || refused.Kind != kind {
			t.Errorf("read %s: %v", path, err)
		}
	}
	if after := stat(t, "/dev/null"); after.Ino != before.Ino || after.Rdev != before.Rdev {
		t.Fatal("/dev/null is another")
	}
}

func TestWhatBreaksOffChangesNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/file", "old")
	put(t, dir+"/two", "old")
	_ = os.Link(dir+"/two", dir+"/two2")
	for _, name := range []string{"file", "two", "new"} {
		src := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
		if _, err := Replace(dir+"/"+name, asRoot, src); err == nil {
			t.Fatal("no error")
		}
	}
	only(t, dir, "file", "two", "two2")
	if get(t, dir+"/file") != "old" || get(t, dir+"/two") != "old" {
		t.Error("half written")
	}
}

// An unfinished transfer has no name: a machine that dies in its midst leaves none.
func TestUnfinishedTransfersHaveNoName(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/file", "old")
	names := func() (list []string) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	look := func() (n int, err error) {
		if got := names(); len(got) != 1 {
			t.Errorf("visible in mid-transfer: %v", got)
		}
		return 0, io.EOF
	}
	src := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), readerFunc(look))
	if _, err := Replace(dir+"/file", asRoot, src); err != nil {
		t.Fatal(err)
	}
	put(t, dir+"/.bhatti-0123456789abcdef", "from an older agent")
	put(t, dir+"/.bhatti-keep", "the user's")
	if got := tidy(dir); len(got) != 1 {
		t.Error(got)
	}
	only(t, dir, ".bhatti-keep", "file")
}

type readerFunc func() (int, error)

func (f readerFunc) Read([]byte) (int, error) { return f() }

func TestMountedOverFilesAreWrittenInPlace(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	put(t, dir+"/below", "below")
	put(t, dir+"/above", "above")
	if err := unix.Mount(dir+"/above", dir+"/below", "", unix.MS_BIND, ""); err != nil {
		t.Skip("no mount here:", err)
	}
	defer unix.Unmount(dir+"/below", unix.MNT_DETACH)
	replace(t, dir+"/below", "new", asRoot)
	if get(t, dir+"/above") != "new" {
		t.Error("not what is mounted there")
	}
	only(t, dir, "above", "below")
}

func TestAFullDiskKeepsTheOldFile(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("no mount here:", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	put(t, dir+"/file", "old")
	put(t, dir+"/two", "old")
	_ = os.Link(dir+"/two", dir+"/three")
	for _, name := range []string{"file", "two", "new"} {
		if _, err := Replace(dir+"/"+name, asRoot, bytes.NewReader(make([]byte, 300<<10))); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The transfer fits, its second copy does not.
	if _, err := Replace(dir+"/two", asRoot, bytes.NewReader(make([]byte, 150<<10))); !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	if get(t, dir+"/two") != "old" || get(t, dir+"/file") != "old" {
		t.Error("the old content is gone")
	}
	only(t, dir, "file", "three", "two")
}

func TestKernelFiles(t *testing.T) {
	needRoot(t)
	const path = "/proc/self/comm"
	old := get(t, path)
	replace(t, path, "renamed", asRoot)
	if got := get(t, path); got != "renamed\n" {
		t.Errorf("%q", got)
	}
	replace(t, path, strings.TrimSpace(old), asRoot)
}

func TestNamesThatAreNotUTF8(t *testing.T) {
	dir := t.TempDir()
	replace(t, dir+"/\xff\xfe", "x", asRoot)
	only(t, dir, "\xff\xfe")
}

func TestParseOwner(t *testing.T) {
	root := t.TempDir()
	_ = os.MkdirAll(filepath.Join(root, "etc"), 0o755)
	put(t, root+"/etc/passwd", "root:x:0:0::/root:/bin/sh\nlohar:x:1000:1001::/home/lohar:/bin/sh\n")
	put(t, root+"/etc/group", "staff:x:50:\n")
	for text, want := range map[string]Owner{
		"lohar": {1000, 1001}, "lohar:": {1000, 1001}, "lohar:staff": {1000, 50}, ":staff": {-1, 50}, "0:0": {0, 0}, "1000": {1000, 1001}, "77": {77, 77}, ":9": {-1, 9},
	} {
		if got, err := ParseOwner(root, text); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", ":", "nobody", "lohar:nogroup", "4294967295", "-1", ":-1"} {
		if got, err := ParseOwner(root, text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestTidyIsHeldUpByNothing(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	go func() { tidy(fifo); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the boot would wait for a FIFO in /home")
	}
}
