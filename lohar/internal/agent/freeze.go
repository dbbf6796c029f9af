package agent

import (
	"time"

	"golang.org/x/sys/unix"
)

// thawFSAfter bounds how long a host that forgot can keep the file system frozen.
const thawFSAfter = 30 * time.Second

func syncAll(*conn, []byte) (any, error) {
	unix.Sync()
	return empty{}, nil
}

// freeze stops writes to the root file system.
func freeze(c *conn, _ []byte) (any, error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Machine.FreezeFS(); err != nil {
		return nil, err
	}
	rearm(&s.thawFS, thawFSAfter, func() { _ = s.Machine.ThawFS() })
	return empty{}, nil
}

func thaw(c *conn, _ []byte) (any, error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	rearm(&s.thawFS, 0, nil)
	return empty{}, s.Machine.ThawFS()
}

type prepareRequest struct {
	TimeoutMS *int64 `json:"timeout_ms"`
}

// prepareClone freezes every user process until the clone is configured, the source resumes or the timeout passes.
func prepareClone(c *conn, r *prepareRequest) (any, error) {
	timeout := 5 * time.Second
	if r.TimeoutMS != nil {
		timeout = time.Duration(*r.TimeoutMS) * time.Millisecond
	}
	if timeout <= 0 || timeout > 10*time.Minute {
		return nil, fail("bad_request", "timeout_ms must be 1 to 600000")
	}
	s := c.s
	s.configuring.Lock()
	defer s.configuring.Unlock()
	s.table.SetFrozen(true)
	if err := s.Machine.FreezeUser(timeout); err != nil {
		s.thawUsers()
		return nil, err
	}
	s.mu.Lock()
	rearm(&s.thawUser, timeout, func() { _ = s.thawUsers() })
	s.mu.Unlock()
	return empty{}, nil
}

func resumeSource(c *conn, _ []byte) (any, error) {
	c.s.configuring.Lock()
	defer c.s.configuring.Unlock()
	return empty{}, c.s.thawUsers()
}

// thawUsers lets user processes run again and new ones start.
func (s *Server) thawUsers() error {
	s.mu.Lock()
	rearm(&s.thawUser, 0, nil)
	s.mu.Unlock()
	err := s.Machine.ThawUser()
	s.table.SetFrozen(false)
	return err
}

// rearm replaces the timer; d 0 only stops it.
func rearm(t **time.Timer, d time.Duration, f func()) {
	if *t != nil {
		(*t).Stop()
		*t = nil
	}
	if d > 0 {
		*t = time.AfterFunc(d, f)
	}
}
