// Package boot is process 1 up to the moment when the agent serves.
package boot

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"bhatti/lohar/internal/initctl"
	"golang.org/x/sys/unix"
)

const (
	rootDevice = "/dev/vda"
	newRoot    = "/newroot"
	port       = "1024"
)

// Result is what the agent gets from a boot.
type Result struct {
	Listener net.Listener
	// Arguments are those of the kernel that start with "bhatti.", without that.
	Arguments map[string]string
	// Warnings are faults that the guest can live with.
	Warnings []error
	// Signals are those by which the guest's tools ask for an end.
	Signals <-chan os.Signal
	// Trace says when (ms since the kernel's start) each step ended.
	Trace string
}

// Boot takes the machine from the initramfs to a root file system and a listening socket. An error means that the
// machine cannot be used.
func Boot() (*Result, error) {
	r := &Result{Arguments: map[string]string{}}
	mark := func(step string) { r.Trace += fmt.Sprintf(" %s=%d", step, uptime().Milliseconds()) }
	mark("start")
	r.Signals = ownSignals()
	unix.Umask(0o022)
	for _, m := range early {
		if err := m.do(); err != nil {
			return nil, err
		}
	}
	r.arguments()
	if err := loadModules("/modules"); err != nil {
		r.Warnings = append(r.Warnings, err)
	}
	mark("modules")
	if err := network(); err != nil {
		// A module that was not loaded is why.
		return nil, errors.Join(append(r.Warnings, fmt.Errorf("network: %w", err))...)
	}
	// The host's first attempt queues from here on, even if the root file system takes a moment longer.
	var err error
	if r.Listener, err = net.Listen("tcp4", "0.0.0.0:"+port); err != nil {
		return nil, err
	}
	mark("network")
	if err := mountRoot(); err != nil {
		return nil, errors.Join(append(r.Warnings, err)...)
	}
	mark("root")
	for _, m := range late {
		if err := m.do(); err != nil {
			r.Warnings = append(r.Warnings, err)
		}
	}
	mark("mounts")
	r.Warnings = append(r.Warnings, sysctls("/", "/proc/sys")...)
	mark("sysctls")
	r.Warnings = append(r.Warnings, modulesImage()...)
	mark("image")
	r.Warnings = append(r.Warnings, conveniences()...)
	r.Warnings = append(r.Warnings, cgroups()...)
	r.Warnings = append(r.Warnings, commands()...)
	mark("rest")
	return r, nil
}

// ownSignals keeps Go from ending process 1; what the guest's tools send comes through the channel. Not signal.Ignore:
// children would inherit that.
func ownSignals() <-chan os.Signal {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGALRM, syscall.SIGWINCH,
		syscall.SIGIO, syscall.SIGXCPU, syscall.SIGXFSZ)
	wanted := make(chan os.Signal, 4)
	signal.Notify(wanted, initctl.Signals()...)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) // Ctrl-Alt-Del is SIGINT to us
	return wanted
}

func (r *Result) arguments() {
	b, _ := os.ReadFile("/proc/cmdline")
	for word := range strings.FieldsSeq(string(b)) {
		if rest, ok := strings.CutPrefix(word, "bhatti."); ok {
			key, value, _ := strings.Cut(rest, "=")
			r.Arguments[key] = value
		}
	}
}

// mountRoot waits for the disk and makes it the root.
func mountRoot() error {
	if err := waitFor(rootDevice, deviceWait, func() bool {
		_, err := os.Stat(rootDevice)
		return err == nil
	}); err != nil {
		return err
	}
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	err := unix.Mount(rootDevice, newRoot, "ext4", unix.MS_NOATIME, "discard")
	if err == unix.EROFS || err == unix.EACCES { // a disk that cannot be written is still one to look at
		err = unix.Mount(rootDevice, newRoot, "ext4", unix.MS_NOATIME|unix.MS_RDONLY, "")
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", rootDevice, err)
	}
	return switchRoot(newRoot)
}

// conveniences are what programs expect of every system besides the mounts.
func conveniences() (failed []error) {
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, "/dev/"+name); err != nil && !os.IsExist(err) {
			failed = append(failed, err)
		}
	}
	_ = os.Chmod("/dev/fuse", 0o666)
	for _, dir := range []string{"/run/lock", "/run/user"} {
		_ = os.MkdirAll(dir, 0o755)
	}
	_ = os.Chmod("/run/lock", 0o1777)
	// No limit of ours is below what containers are used to; core files only fill the disk.
	for resource, limit := range map[int]syscall.Rlimit{
		syscall.RLIMIT_NOFILE: {Cur: 65536, Max: 1048576}, syscall.RLIMIT_CORE: {Cur: 0, Max: unix.RLIM_INFINITY},
	} {
		if err := syscall.Setrlimit(resource, &limit); err != nil {
			failed = append(failed, fmt.Errorf("rlimit %d: %w", resource, err))
		}
	}
	return failed
}

var errTimeout = errors.New("did not appear")

// waitFor polls, at first every half millisecond: on the way to a boot every millisecond counts.
func waitFor(what string, limit time.Duration, ready func() bool) error {
	deadline := time.Now().Add(limit)
	for pause := 500 * time.Microsecond; !ready(); pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s %w within %v", what, errTimeout, limit)
		}
		time.Sleep(pause)
	}
	return nil
}

func uptime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}
