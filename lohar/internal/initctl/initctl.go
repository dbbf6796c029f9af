// Package initctl is how the guest's own tools ask process 1 to end the machine: by signal (systemd(1), busybox init) and
// by the FIFO /run/initctl (sysvinit, and systemctl where systemd is not process 1). Both are root's alone.
package initctl

import (
	"encoding/binary"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Path of the FIFO.
const Path = "/run/initctl"

// rtmin is the C library's SIGRTMIN: the two before it belong to its threads.
const rtmin = 34

// Signals that process 1 listens to; all others of Ignored only keep Go from ending it.
var meaning = map[syscall.Signal]bool{ // true = reboot
	syscall.SIGINT:  true, // Ctrl-Alt-Del
	syscall.SIGTERM: true, // busybox
	syscall.SIGUSR1: false,
	syscall.SIGUSR2: false,
	syscall.SIGPWR:  false,
	rtmin + 3:       false, // systemd's halt, power off, reboot
	rtmin + 4:       false,
	rtmin + 5:       true,
}

// Signals is what Watch wants to be told of.
func Signals() (list []os.Signal) {
	for s := range meaning {
		list = append(list, s)
	}
	return list
}

// Watch calls end for every wish that arrives; it returns at once.
func Watch(signals <-chan os.Signal, end func(reboot bool)) error {
	go func() {
		for s := range signals {
			if n, ok := s.(syscall.Signal); ok {
				if reboot, known := meaning[n]; known {
					end(reboot)
				}
			}
		}
	}()
	return serve(Path, end)
}

// serve makes the FIFO and reads it for ever.
func serve(path string, end func(reboot bool)) error {
	_ = os.Remove(path)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return err
	}
	// For writing as well: the last writer's end is none of ours.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	go func() {
		defer f.Close()
		for {
			var request [requestSize]byte
			if _, err := io.ReadFull(f, request[:]); err != nil {
				return
			}
			if reboot, ok := parse(request[:]); ok {
				end(reboot)
			}
		}
	}()
	return nil
}

// struct init_request of sysvinit's initreq.h.
const (
	requestSize = 384
	magic       = 0x03091969
	runLevel    = 1
)

// parse reports a change to runlevel 0 (power off) or 6 (reboot).
func parse(b []byte) (reboot, ok bool) {
	if len(b) < 12 || binary.NativeEndian.Uint32(b) != magic || binary.NativeEndian.Uint32(b[4:]) != runLevel {
		return false, false
	}
	level := binary.NativeEndian.Uint32(b[8:])
	return level == '6', level == '6' || level == '0'
}
