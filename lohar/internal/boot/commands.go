package boot

import (
	"os"
	"path/filepath"

	"bhatti/lohar/internal/shutdown"
	"golang.org/x/sys/unix"
)

const (
	// ownBinary is where the kernel found us.
	ownBinary = "/init"
	// visibleBinary is where the guest's programs find us.
	visibleBinary = "/run/bhatti/lohar"
)

// commands gives the guest reboot, poweroff, halt and shutdown where the image has none. The binary is not copied: it is
// the file that this process runs from.
func commands() (failed []error) {
	if err := os.MkdirAll(filepath.Dir(visibleBinary), 0o755); err != nil {
		return []error{err}
	}
	_ = os.Remove(visibleBinary) // where /run is not ours
	f, err := os.OpenFile(visibleBinary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return []error{err}
	}
	_ = f.Close()
	if err := unix.Mount("/proc/self/exe", visibleBinary, "", unix.MS_BIND, ""); err != nil {
		return []error{os.NewSyscallError("bind "+visibleBinary, err)}
	}
	if err := unix.Mount("", visibleBinary, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		failed = append(failed, os.NewSyscallError("remount "+visibleBinary, err))
	}
	if err := os.MkdirAll("/usr/local/sbin", 0o755); err != nil {
		return []error{err}
	}
	for _, name := range shutdown.Names {
		if !installed(name) {
			if err := os.Symlink(visibleBinary, filepath.Join("/usr/local/sbin", name)); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return failed
}

// installed also finds our own link, which may dangle for the moment.
func installed(name string) bool {
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
