package machine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"bhatti/lohar/internal/netlink"
	"golang.org/x/sys/unix"
)

// UserCgroup is the directory of the group that all user processes are born in.
const UserCgroup = "/sys/fs/cgroup/user"

// Real is the guest that this process is PID 1 of.
type Real struct {
	refuse bool
	user   int
	mounts map[string]Volume // by mount point
}

// NewReal takes the kernel arguments that start with "bhatti.".
func NewReal(arguments map[string]string) (*Real, error) {
	fd, err := unix.Open(UserCgroup, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cgroup of user processes: %w", err)
	}
	return &Real{refuse: arguments["test"] == "refuse-configure", user: fd, mounts: map[string]Volume{}}, nil
}

// Root is the root directory.
func (r *Real) Root() string { return "/" }

// RefusesConfigure is set by the kernel argument bhatti.test=refuse-configure.
func (r *Real) RefusesConfigure() bool { return r.refuse }

// UserCgroup is the descriptor of the group's directory.
func (r *Real) UserCgroup() int { return r.user }

// SetClock steps the wall clock.
func (r *Real) SetClock(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
}

// SetHostname names the machine for the kernel.
func (r *Real) SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

// FlushNeighbours forgets what was learned about link-layer addresses.
func (r *Real) FlushNeighbours() error {
	c, err := netlink.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.FlushNeighbours()
}

// BusyTime is the CPU time of the user cgroup.
func (r *Real) BusyTime() time.Duration {
	b, _ := os.ReadFile(UserCgroup + "/cpu.stat")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Duration(n) * time.Microsecond
		}
	}
	return 0
}

// Mount mounts a volume; the same one again is no error. A fresh writable volume is given to uid 1000.
func (r *Real) Mount(v Volume) error {
	if have, ok := r.mounts[v.Mount]; ok && have == v {
		return nil
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		if _, err := os.Stat(v.Device); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("the device did not appear")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := os.MkdirAll(v.Mount, 0o755); err != nil {
		return err
	}
	flags, data := uintptr(unix.MS_NOATIME|unix.MS_NODEV|unix.MS_NOSUID), "discard"
	if v.ReadOnly {
		flags, data = flags|unix.MS_RDONLY, ""
	}
	if err := unix.Mount(v.Device, v.Mount, v.FS, flags, data); err != nil {
		return err
	}
	r.mounts[v.Mount] = v
	var st unix.Stat_t
	if !v.ReadOnly && unix.Stat(v.Mount, &st) == nil && st.Uid == 0 {
		return os.Chown(v.Mount, 1000, 1000)
	}
	return nil
}
