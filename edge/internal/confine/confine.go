// Package confine gives up what the edge does not need: it reads what strangers send.
package confine

import (
	"crypto/x509"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Enter makes root the file system's root, becomes user and group uid, and can become nothing else. Sockets that are open
// stay. uid 0 stays what it is (a daemon that is not root).
func Enter(root string, uid int) error {
	// Read now: they are outside.
	_, _ = x509.SystemCertPool()
	if uid == 0 {
		return nil
	}
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("chroot %s: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// The syscall package's, because they act on every thread.
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setresgid(uid, uid, uid); err != nil {
		return err
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return err
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); errno != 0 {
		return errno
	}
	if os.Geteuid() != uid {
		return fmt.Errorf("cannot become user %d", uid)
	}
	return nil
}
