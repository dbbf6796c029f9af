// Package machine is the seam to the kernel: what changes the whole guest. Real is used as PID 1, Recorder on a
// developer's machine.
package machine

import "time"

// Volume is a block device to mount.
type Volume struct {
	Device   string `json:"device"`
	Mount    string `json:"mount"`
	FS       string `json:"fs"`
	ReadOnly bool   `json:"read_only"`
}

// End says how a machine ends.
type End struct {
	Reboot bool
	By     string // host or guest: who asked for it
	// Grace is the time between TERM and KILL.
	Grace time.Duration
}

// Machine changes the guest as a whole.
type Machine interface {
	// Root is the directory that holds the guest's /etc; empty when nothing may be written there.
	Root() string
	// AddEntropy mixes seed into the kernel's pool and makes its generator start afresh.
	AddEntropy(seed []byte) error
	// SetClock steps the wall clock.
	SetClock(t time.Time) error
	SetHostname(name string) error
	// FlushNeighbours forgets link-layer addresses that were learned.
	FlushNeighbours() error
	// GrowRoot makes the root file system as large as its device.
	GrowRoot() error
	Mount(v Volume) error
	// FreezeFS and ThawFS stop and resume writes to the root file system; repeating either is no error.
	FreezeFS() error
	ThawFS() error
	// FreezeUser stops every user process and returns when all stand still, or with an error after limit.
	FreezeUser(limit time.Duration) error
	ThawUser() error
	// UserCgroup is the descriptor of the cgroup that user processes are born in; 0 = none.
	UserCgroup() int
	// BusyTime is the CPU time that user processes have used.
	BusyTime() time.Duration
	// End ends all processes and the machine. It does not return on a real one.
	End(e End)
	// RefusesConfigure is the fail-closed test's hook (kernel argument bhatti.test=refuse-configure).
	RefusesConfigure() bool
}
