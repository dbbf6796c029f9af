package identity

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// readOnlyRoot is a tree on a file system of its own that cannot be written, with a /run that can.
func readOnlyRoot(t *testing.T, fill func(root string)) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts: needs root")
	}
	root := t.TempDir()
	mount := func(target string, flags uintptr) {
		if err := unix.Mount("tmpfs", target, "tmpfs", flags, "size=4m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	mount(root, 0)
	_ = os.Mkdir(root+"/run", 0o755)
	fill(root)
	mount(root+"/run", 0)
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestIdentityNeedsNoWritableRoot(t *testing.T) {
	root := readOnlyRoot(t, func(root string) {
		for _, name := range []string{"hostname", "hosts", "machine-id"} {
			write(t, root+"/etc/"+name, "old\n")
		}
		write(t, root+"/etc/ssh/ssh_host_key", "the original's")
		write(t, root+"/etc/ssh/sshd_config.d/x.conf", "kept")
		_ = os.Symlink("/run/resolve/stub.conf", root+"/etc/resolv.conf")
	})
	t.Cleanup(func() {
		for _, name := range []string{"hostname", "hosts", "machine-id", "ssh"} {
			_ = unix.Unmount(root+"/etc/"+name, unix.MNT_DETACH)
		}
	})
	for _, digit := range []string{"a", "b"} { // the second one is written into what covers
		id := Identity{Hostname: "dev" + digit, MachineID: strings.Repeat(digit, 32), Resolver: []string{"169.254.77.1"}, Clone: digit == "a"}
		warnings, err := id.Apply(root)
		if err != nil || len(warnings) > 0 {
			t.Fatal(err, warnings)
		}
		if read(t, root+"/etc/hostname") != id.Hostname+"\n" || read(t, root+"/etc/machine-id") != id.MachineID+"\n" ||
			!strings.Contains(read(t, root+"/etc/hosts"), id.Hostname) ||
			!strings.Contains(read(t, root+"/run/resolve/stub.conf"), "nameserver 169.254.77.1") {
			t.Error("not itself")
		}
	}
	if _, err := os.Stat(root + "/etc/ssh/ssh_host_key"); !os.IsNotExist(err) {
		t.Error("the original's host key is still there")
	}
	if read(t, root+"/etc/ssh/sshd_config.d/x.conf") != "kept" || !WantsHostKeys(root) {
		t.Error("what covers /etc/ssh is not whole")
	}
}

func TestMissingFilesOnAReadOnlyRootAreWarnings(t *testing.T) {
	root := readOnlyRoot(t, func(root string) { _ = os.Mkdir(root+"/etc", 0o755) })
	warnings, err := Identity{Hostname: "dev", Resolver: []string{"169.254.77.1"}}.Apply(root)
	if err != nil || len(warnings) != 3 || !strings.Contains(warnings[0], "/etc/hostname") || !strings.Contains(warnings[0], "read-only") {
		t.Error(err, warnings)
	}
}
