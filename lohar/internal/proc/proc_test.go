package proc

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestLookupUser(t *testing.T) {
	root := t.TempDir()
	_ = os.Mkdir(root+"/etc", 0o755)
	_ = os.WriteFile(root+"/etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nbroken\nlohar:x:1000:1001::/home/lohar:/bin/bash\nbad:x:1002:x::rel:\n"), 0o644)
	_ = os.WriteFile(root+"/etc/group", []byte("a:x:7:x,lohar\nb:x:8:lohars\nc:x:9:lohar\nd:x:1001:lohar\ne:x:nope:lohar\n"), 0o644)
	u := LookupUser(root, 1000)
	if u.Name != "lohar" || u.GID != 1001 || u.Home != "/home/lohar" || !slices.Equal(u.Groups, []uint32{7, 9}) {
		t.Errorf("%+v", u)
	}
	if u := LookupUser(root, 1002); u.GID != 1002 || u.Home != "/" {
		t.Errorf("%+v", u)
	}
	if u := LookupUser(root, 4242); u.Name != "" || u.GID != 4242 || u.Home != "/" {
		t.Errorf("%+v", u)
	}
	if u := LookupUser(root+"/none", 0); u.Home != "/root" || u.GID != 0 {
		t.Errorf("%+v", u)
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	_ = os.Mkdir(dir+"/bin", 0o755)
	_ = os.WriteFile(dir+"/bin/tool", nil, 0o755)
	_ = os.WriteFile(dir+"/bin/data", nil, 0o644)
	for _, c := range []struct {
		name, path, dir, want string
		err                   error
	}{
		{"tool", "/nowhere:" + dir + "/bin", "/", dir + "/bin/tool", nil},
		{"tool", "bin", dir, dir + "/bin/tool", nil},
		{"bin/tool", "", dir, "bin/tool", nil},
		{"data", dir + "/bin", "/", "", syscall.EACCES},
		{"none", dir + "/bin", "/", "", syscall.ENOENT},
		{dir + "/bin", "", "/", dir + "/bin", syscall.EACCES},
	} {
		if got, err := LookPath(c.name, c.path, c.dir); got != c.want || err != c.err {
			t.Errorf("%s: %q %v", c.name, got, err)
		}
	}
}

func TestEnvironmentLayers(t *testing.T) {
	list, env := Environment(&User{Name: "u", Home: "/h"}, map[string]string{"A": "1", "TERM": "dumb"}, map[string]string{"A": "2"})
	if !slices.IsSorted(list) || env["A"] != "2" || env["TERM"] != "dumb" || env["HOME"] != "/h" || env["USER"] != "u" {
		t.Error(list)
	}
	if ValidEnv(map[string]string{"": "x"}) || ValidEnv(map[string]string{"A": "\x00"}) || !ValidEnv(map[string]string{"A": "=\n"}) {
		t.Error("validity")
	}
}

func TestAsUsesTheUsersRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changes its file system identity: needs root")
	}
	dir := t.TempDir()
	secret := dir + "/secret"
	_ = os.WriteFile(secret, nil, 0o600)
	_ = os.Chmod(dir, 0o777)
	u := &User{UID: 54321, GID: 54321}
	err := As(u, func() error { _, err := os.Open(secret); return err })
	if !os.IsPermission(err) {
		t.Fatal("root's file was opened:", err)
	}
	if err := As(nil, func() error { f, err := os.Open(secret); f.Close(); return err }); err != nil {
		t.Fatal("our own rights are gone:", err)
	}
}

func TestSignalNames(t *testing.T) {
	if SignalName(syscall.SIGKILL) != "KILL" || SignalName(40) != "RT40" || ParseSignal("INT") != syscall.SIGINT || ParseSignal("NOPE") != 0 {
		t.Error("names")
	}
}

func TestAccountsThatAreNoFile(t *testing.T) {
	root := t.TempDir()
	_ = os.Mkdir(root+"/etc", 0o755)
	for _, name := range []string{"passwd", "group"} {
		if err := syscall.Mkfifo(root+"/etc/"+name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan bool)
	go func() {
		if u := LookupUser(root, 1000); u.Name != "" || u.GID != 1000 {
			t.Errorf("%+v", u)
		}
		if _, ok := FindGroup(root, "wheel"); ok || FindUser(root, "ann") != nil {
			t.Error("found in a FIFO")
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("every exec would wait for a FIFO")
	}
}
