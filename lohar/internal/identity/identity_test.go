package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	_ = os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestApply(t *testing.T) {
	root := t.TempDir()
	etc := root + "/etc"
	write(t, etc+"/hosts", "127.0.0.1 localhost\n10.0.0.1 kept\n127.0.1.1\told "+marker+"\n")
	write(t, root+"/elsewhere", "untouched")
	if err := os.Symlink(root+"/elsewhere", etc+"/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	id := Identity{Hostname: "dev", MachineID: strings.Repeat("a", 32), Resolver: []string{"169.254.77.1"}, Search: []string{"internal"}}
	for range 2 { // twice: idempotent
		if _, err := id.Apply(root); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, etc+"/hosts"); got != "127.0.0.1 localhost\n10.0.0.1 kept\n127.0.1.1\tdev "+marker+"\n" {
		t.Errorf("%q", got)
	}
	if got := read(t, etc+"/resolv.conf"); !strings.HasPrefix(got, "search internal\nnameserver 169.254.77.1\n") {
		t.Errorf("%q", got)
	}
	if read(t, root+"/elsewhere") != "untouched" {
		t.Error("written through a link")
	}
	if read(t, etc+"/hostname") != "dev\n" || read(t, etc+"/machine-id") != id.MachineID+"\n" {
		t.Error("names")
	}
	entries, _ := os.ReadDir(etc)
	if len(entries) != 4 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestLinksAreNeverWrittenThrough(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/elsewhere", "untouched")
	write(t, root+"/etc/hosts", "127.0.0.1 localhost\n")
	for _, name := range []string{"hostname", "machine-id"} {
		if err := os.Link(root+"/elsewhere", root+"/etc/"+name); err != nil {
			t.Fatal(err)
		}
	}
	long, short := Identity{Hostname: strings.Repeat("h", 63), MachineID: strings.Repeat("a", 32)}, Identity{Hostname: "h"}
	for _, id := range []Identity{long, short} {
		if _, err := id.Apply(root); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, root+"/elsewhere") != "untouched" {
		t.Error("written through a hard link")
	}
	if got := read(t, root+"/etc/hostname"); got != "h\n" {
		t.Errorf("%q is left of the longer name", got)
	}
	if info, err := os.Stat(root + "/etc/machine-id"); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("mode of machine-id: %v %v", info.Mode(), err)
	}
}

func TestHostKeysAreNeverShared(t *testing.T) {
	key := "/etc/ssh/ssh_host_ed25519_key"
	setUp := func() string {
		root := t.TempDir()
		write(t, root+key, "secret")
		write(t, root+key+".pub", "public")
		write(t, root+"/etc/machine-id", strings.Repeat("a", 32)+"\n")
		return root
	}
	for name, c := range map[string]struct {
		id   Identity
		kept bool
	}{
		"clone":          {Identity{Clone: true, MachineID: strings.Repeat("a", 32)}, false},
		"first boot":     {Identity{MachineID: strings.Repeat("b", 32)}, false},
		"same boot":      {Identity{MachineID: strings.Repeat("a", 32)}, true},
		"wake, no names": {Identity{}, true},
	} {
		root := setUp()
		if _, err := c.id.Apply(root); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(root + key)
		if (err == nil) != c.kept || WantsHostKeys(root) == c.kept {
			t.Errorf("%s: kept %v, wanted anew %v", name, err == nil, WantsHostKeys(root))
		}
	}
}

func TestValidation(t *testing.T) {
	for name, want := range map[string]bool{"dev": true, "a.b_c-D9": true, "": false, "-a": false, "a b": false, "a\n": false, strings.Repeat("x", 64): false} {
		if ValidHostname(name) != want {
			t.Errorf("%q", name)
		}
	}
	if ValidResolver([]string{"::1", "1.1.1.1"}, []string{"a.b"}) != true || ValidResolver([]string{"fe80::1%eth0"}, nil) || ValidResolver(nil, []string{"a\nnameserver 6.6.6.6"}) {
		t.Error("resolver")
	}
	if ValidMachineID(strings.Repeat("A", 32)) || !ValidMachineID(strings.Repeat("0", 32)) {
		t.Error("machine id")
	}
}

func TestWhatBlocksIsNeverOpened(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/etc/ssh/ssh_host_rsa_key", "secret")
	write(t, root+"/precious", "precious")
	for _, name := range []string{"hosts", "machine-id", "hostname", "resolv.conf"} {
		if err := unix.Mkfifo(filepath.Join(root, "etc", name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, mark := range []func() error{
		func() error { return unix.Mkfifo(filepath.Join(root, wanted), 0o644) },
		func() error { return os.Symlink(root+"/precious", filepath.Join(root, wanted)) },
	} {
		_ = os.Remove(filepath.Join(root, wanted))
		write(t, root+"/etc/ssh/ssh_host_rsa_key", "secret")
		if err := mark(); err != nil {
			t.Fatal(err)
		}
		done := make(chan bool)
		go func() {
			id := Identity{Hostname: "dev", MachineID: strings.Repeat("a", 32), Clone: true}
			if warnings, err := id.Apply(root); err != nil || len(warnings) > 0 {
				t.Error(warnings, err)
			}
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatal("the identity waits for a FIFO")
		}
		if !strings.Contains(read(t, root+"/etc/hosts"), "dev") || !WantsHostKeys(root) || read(t, root+"/precious") != "precious" {
			t.Error("not applied, or written through a link")
		}
	}
	_ = os.Remove(root + "/run/sshd.pid")
	_ = os.MkdirAll(root+"/run", 0o755)
	if err := unix.Mkfifo(root+"/run/sshd.pid", 0o644); err != nil {
		t.Fatal(err)
	}
	ReloadSSH(root)
}
