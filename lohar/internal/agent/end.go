package agent

import (
	"time"

	"bhatti/lohar/internal/machine"
	"bhatti/lohar/internal/proto"
)

type poweroffRequest struct {
	TimeoutMS int64 `json:"timeout_ms"`
}

// defaultGrace is how long processes have between TERM and KILL.
const defaultGrace = 2 * time.Second

// poweroff answers first: nothing can be told afterwards.
func poweroff(c *conn, r *poweroffRequest) (any, error) {
	grace := defaultGrace
	if r.TimeoutMS > 0 {
		grace = time.Duration(min(r.TimeoutMS, 60_000)) * time.Millisecond
	}
	c.endBeats()
	if err := c.sendJSON(proto.Result, empty{}); err != nil {
		return nil, err
	}
	c.s.end(machine.End{By: "host", Grace: grace})
	return nil, errCancelled
}

// EndByGuest ends the machine because somebody inside asked for it: as on any Linux, services get more time.
func (s *Server) EndByGuest(reboot bool) {
	s.end(machine.End{Reboot: reboot, By: "guest", Grace: 5 * time.Second})
}

func (s *Server) end(e machine.End) {
	s.configuring.Lock() // no configure, no freeze from here on
	defer s.configuring.Unlock()
	_ = s.Machine.ThawFS()
	_ = s.thawUsers()
	s.Machine.End(e)
}
