package machine

import (
	"syscall"
	"time"
)

// Recorder touches nothing. It lets the protocol be tested without a guest.
type Recorder struct{}

func (Recorder) Root() string                   { return "" }
func (Recorder) AddEntropy([]byte) error        { return nil }
func (Recorder) SetClock(time.Time) error       { return nil }
func (Recorder) SetHostname(string) error       { return nil }
func (Recorder) FlushNeighbours() error         { return nil }
func (Recorder) GrowRoot() error                { return nil }
func (Recorder) Mount(Volume) error             { return nil }
func (Recorder) FreezeFS() error                { return nil }
func (Recorder) ThawFS() error                  { return nil }
func (Recorder) FreezeUser(time.Duration) error { return nil }
func (Recorder) ThawUser() error                { return nil }
func (Recorder) UserCgroup() int                { return 0 }
func (Recorder) End(End)                        {}
func (Recorder) RefusesConfigure() bool         { return false }

// BusyTime is that of the children that have ended.
func (Recorder) BusyTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
