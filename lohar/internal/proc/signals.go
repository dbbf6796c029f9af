package proc

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// SignalName is the name without SIG, or the number for one without a name.
func SignalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return "RT" + itoa(int(s))
}

// ParseSignal turns a name without SIG into its number; 0 for an unknown name.
func ParseSignal(name string) syscall.Signal {
	if len(name) > 16 {
		return 0
	}
	return unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}
