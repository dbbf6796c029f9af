package agent

import (
	"time"

	"bhatti/lohar/internal/proto"
)

type poweroffRequest struct {
	TimeoutMS int64 `json:"timeout_ms"`
}

// poweroff answers first: nothing can be told afterwards.
func poweroff(c *conn, r *poweroffRequest) (any, error) {
	grace := 2 * time.Second
	if r.TimeoutMS > 0 {
		grace = time.Duration(min(r.TimeoutMS, 60_000)) * time.Millisecond
	}
	if err := c.sendJSON(proto.Result, empty{}); err != nil {
		return nil, err
	}
	c.s.configuring.Lock() // no configure, no freeze from here on
	defer c.s.configuring.Unlock()
	_ = c.s.Machine.ThawFS()
	_ = c.s.thawUsers()
	c.s.Machine.PowerOff(grace)
	return nil, errCancelled
}
