package machine

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ConsoleLine is the last one that the agent writes to the console, in front of the kernel's own ("reboot: Restarting
// system", "reboot: Power down"): the host tells the reasons for a machine's end apart by it (docs/guest-protocol.md).
func ConsoleLine(reason, by, text string) string {
	if text != "" {
		text = " " + text
	}
	return fmt.Sprintf("lohar: end=%s by=%s%s\n", reason, by, text)
}

// End ends every process, makes the disks consistent and turns the machine off or restarts it.
func (r *Real) End(e End) {
	reason, command := "poweroff", OffCommand()
	if e.Reboot {
		reason, command = "reboot", unix.LINUX_REBOOT_CMD_RESTART
	}
	_ = unix.Kill(-1, syscall.SIGTERM)
	_ = unix.Kill(-1, syscall.SIGCONT)
	for deadline := time.Now().Add(e.Grace); populated() && time.Now().Before(deadline); {
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
	fmt.Print(ConsoleLine(reason, e.By, ""))
	_ = unix.Reboot(command)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // a machine that cannot be turned off
}
