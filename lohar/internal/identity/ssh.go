package identity

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// wanted marks, across a reboot in between, that host keys were removed and are still to be made.
const wanted = "etc/ssh/.bhatti-make-host-keys"

// removeHostKeys takes the original's SSH host keys away, if it had any. From here to the new ones nobody can pass for
// the original.
func removeHostKeys(root string) error {
	keys, err := filepath.Glob(filepath.Join(root, "etc/ssh/ssh_host_*"))
	if err != nil || len(keys) == 0 {
		return err
	}
	mark := filepath.Join(root, wanted)
	_ = os.Remove(mark) // whatever else it may be
	f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_ = f.Close()
	for _, k := range keys {
		if err := os.Remove(k); err != nil {
			return err
		}
	}
	return nil
}

// WantsHostKeys reports whether host keys are to be made.
func WantsHostKeys(root string) bool {
	_, err := os.Lstat(filepath.Join(root, wanted))
	return err == nil
}

// ReloadSSH is called after the keys were made: a running server reads them anew at SIGHUP.
func ReloadSSH(root string) {
	_ = os.Remove(filepath.Join(root, wanted))
	pid, err := strconv.Atoi(strings.TrimSpace(readSome(filepath.Join(root, "run/sshd.pid"), 32)))
	if err != nil || pid <= 1 {
		return
	}
	if comm := readSome("/proc/"+strconv.Itoa(pid)+"/comm", 32); strings.TrimSpace(comm) == "sshd" {
		_ = syscall.Kill(pid, syscall.SIGHUP)
	}
}
