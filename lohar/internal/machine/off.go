package machine

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// offByReset is the kernel argument of machines without a power switch: told to power off, their kernel would halt for ever.
const offByReset = "bhatti.off=reset"

// OffCommand is the argument of reboot(2) that ends this machine.
func OffCommand() int {
	arguments, _ := os.ReadFile("/proc/cmdline")
	return offCommand(string(arguments))
}

func offCommand(arguments string) int {
	if slices.Contains(strings.Fields(arguments), offByReset) {
		return unix.LINUX_REBOOT_CMD_RESTART
	}
	return unix.LINUX_REBOOT_CMD_POWER_OFF
}
