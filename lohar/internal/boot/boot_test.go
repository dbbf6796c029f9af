package boot

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
