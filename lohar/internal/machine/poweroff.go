package machine

import (
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// PowerOff ends every process, makes the disks consistent and turns the machine off.
func (r *Real) PowerOff(grace time.Duration) {
	_ = unix.Kill(-1, syscall.SIGTERM)
	_ = unix.Kill(-1, syscall.SIGCONT)
	for deadline := time.Now().Add(grace); populated() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	_ = unix.Kill(-1, syscall.SIGKILL)
	for deadline := time.Now().Add(2 * time.Second); populated() && time.Now().Before(deadline); {
		time.Sleep(2 * time.Millisecond)
	}
	unix.Sync()
	mounts := make([]string, 0, len(r.mounts))
	for m := range r.mounts {
		mounts = append(mounts, m)
	}
	slices.SortFunc(mounts, func(a, b string) int { return len(b) - len(a) }) // inner ones first
	for _, m := range append(mounts, "/") {
		if m == "/" || unix.Unmount(m, 0) != nil {
			_ = unix.Mount("", m, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
