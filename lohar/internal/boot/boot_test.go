package boot

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func put(t *testing.T, path, content string) {
	t.Helper()
	_ = os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

func TestSysctlsOfTheImageWin(t *testing.T) {
	root, proc := t.TempDir(), t.TempDir()
	for line := range strings.Lines(defaults) {
		if key, _, ok := strings.Cut(strings.TrimPrefix(line, "-"), " "); ok {
			put(t, filepath.Join(proc, sysctlPath(key)), "kernel's")
		}
	}
	put(t, proc+"/net/ipv4/conf/eth0.5/rp_filter", "0")
	put(t, proc+"/net/ipv4/conf/lo/rp_filter", "0")
	put(t, root+"/usr/lib/sysctl.d/10-a.conf", "vm.max_map_count = 1\nkernel.pid_max=7\n")
	put(t, root+"/etc/sysctl.d/10-a.conf", "# instead of the one in /usr/lib\nvm/max_map_count=2\n")
	put(t, root+"/etc/sysctl.d/20-b.conf", "; x\nnet.ipv4.conf.*.rp_filter = 2\n-no.such = 1\nno.other = 1\n")
	put(t, root+"/etc/sysctl.conf", "net.ipv4.conf.eth0/5.rp_filter=1\n../../etc/passwd = x\n")
	failed := sysctls(root, proc)
	if len(failed) != 2 || !strings.Contains(failed[0].Error(), "20-b.conf: there is no sysctl no.other") {
		t.Error(failed)
	}
	for path, want := range map[string]string{
		"vm/max_map_count": "2", "kernel/pid_max": "4194304", "fs/inotify/max_user_watches": "524288",
		"net/ipv4/ping_group_range": "0 2147483647", "net/ipv4/conf/eth0.5/rp_filter": "1", "net/ipv4/conf/lo/rp_filter": "2",
	} {
		if got := get(proc + "/" + path); got != want {
			t.Errorf("%s = %q", path, got)
		}
	}
}

func TestNodes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("device nodes: needs root")
	}
	dev := t.TempDir()
	if failed := nodes(dev, "# comment\ntun net/tun c10:200\nloop loop-control c10:237\nbad ../x c1:1\nshort\n"); len(failed) > 0 {
		t.Skip("no device nodes here:", failed)
	}
	for name, want := range map[string]uint32{"net/tun": 0o666, "loop-control": 0o600} {
		var st unix.Stat_t
		if err := unix.Stat(dev+"/"+name, &st); err != nil || st.Mode != unix.S_IFCHR|want || unix.Major(st.Rdev) != 10 {
			t.Errorf("%s: %o %v", name, st.Mode, err)
		}
	}
	if failed := nodes(dev, "tun net/tun c10:200\n"); len(failed) > 0 {
		t.Error("not idempotent:", failed)
	}
}

func TestLabelled(t *testing.T) {
	dir := t.TempDir()
	super := make([]byte, 4096)
	put(t, dir+"/vdb", string(super))
	binary.LittleEndian.PutUint16(super[1024+0x38:], 0xef53)
	copy(super[1024+0x78:], "other")
	put(t, dir+"/vdc", string(super))
	copy(super[1024+0x78:], modulesLabel)
	put(t, dir+"/vdd", string(super))
	if got := labelled(dir+"/vd", modulesLabel); got != dir+"/vdd" {
		t.Error(got)
	}
}

// within fails the test when f does not end: what lies in an image must never hold up its boot.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan bool)
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal(what + " blocks")
	}
}

// oddities lies in a folder what is no configuration file.
func oddities(t *testing.T, dir string) {
	t.Helper()
	put(t, dir+"/50-large.conf", strings.Repeat("# \n", maxDropIn))
	for name, target := range map[string]string{"10-zero.conf": "/dev/zero", "10-null.conf": "/dev/null"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(dir+"/00-fifo.conf", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/00-dir.conf", 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestOdditiesInSysctlDoNotHoldUpTheBoot(t *testing.T) {
	root, proc := t.TempDir(), t.TempDir()
	for line := range strings.Lines(defaults) {
		if key, _, ok := strings.Cut(strings.TrimPrefix(line, "-"), " "); ok {
			put(t, filepath.Join(proc, sysctlPath(key)), "kernel's")
		}
	}
	put(t, root+"/etc/sysctl.d/90-last.conf", "kernel.pid_max = 9\n")
	oddities(t, root+"/etc/sysctl.d")
	if err := unix.Mkfifo(root+"/etc/sysctl.conf", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(root+"/run", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(root+"/run/sysctl.d", 0o644); err != nil {
		t.Fatal(err)
	}
	within(t, "sysctls", func() {
		failed := sysctls(root, proc)
		// A link to /dev/null is how a file of another folder is switched off (sysctl.d(5)).
		if len(failed) != 5 {
			t.Error(failed)
		}
	})
	if got := get(proc + "/kernel/pid_max"); got != "9" {
		t.Errorf("what follows them was not read: %q", got)
	}
}

func TestOdditiesInModulesLoadDoNotHoldUpTheBoot(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/etc/modules-load.d/90-last.conf", "tun\n")
	oddities(t, root+"/etc/modules-load.d")
	within(t, "wanted", func() {
		names, failed := wanted(root)
		if len(names) != 1 || names[0] != "tun" || len(failed) != 4 {
			t.Error(names, failed)
		}
	})
}

func TestModprobeThatLeavesSomethingBehindDoesNotHoldUpTheBoot(t *testing.T) {
	script := filepath.Join(t.TempDir(), "modprobe")
	put(t, script, "#!/bin/sh\nsleep 30 &\necho no; exit 1\n")
	_ = os.Chmod(script, 0o755)
	within(t, "modprobe", func() {
		if failed := load(script, []string{"tun"}); len(failed) != 1 || !strings.Contains(failed[0].Error(), "no") {
			t.Error(failed)
		}
	})
}
