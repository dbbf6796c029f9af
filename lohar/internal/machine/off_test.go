package machine

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestAMachineWithoutPowerSwitchIsReset(t *testing.T) {
	for arguments, want := range map[string]int{
		"console=ttyS0 bhatti.off=reset quiet\n": unix.LINUX_REBOOT_CMD_RESTART,
		"console=ttyS0 quiet\n":                  unix.LINUX_REBOOT_CMD_POWER_OFF,
		"bhatti.off=resets\n":                    unix.LINUX_REBOOT_CMD_POWER_OFF,
	} {
		if got := offCommand(arguments); got != want {
			t.Errorf("%q: %x, not %x", arguments, got, want)
		}
	}
}
