package agent

import (
	"time"

	"bhatti/lohar/internal/proto"
)

// heartbeatEvery is how long a request may be silent before the host is told that it is still served. The host takes a
// guest for unresponsive after several times that.
const heartbeatEvery = 5 * time.Second

// heartbeat of the request in progress.
type heartbeat struct {
	busy  bool
	last  time.Time // of the last frame sent
	timer *time.Timer
}

// beginBeats is called when a request begins.
func (c *conn) beginBeats() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.beat.busy, c.beat.last = true, time.Now()
	if c.beat.timer == nil {
		c.beat.timer = time.AfterFunc(c.s.Heartbeat, c.onBeat)
	} else {
		c.beat.timer.Reset(c.s.Heartbeat)
	}
}

// endBeats: no heartbeat is sent from here on.
func (c *conn) endBeats() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.beat.busy = false
	if c.beat.timer != nil {
		c.beat.timer.Stop()
	}
}

// onBeat waits behind a write that the host does not take: a host that does not read needs no sign of life.
func (c *conn) onBeat() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.beat.busy {
		return
	}
	quiet := time.Since(c.beat.last)
	if quiet >= c.s.Heartbeat {
		if c.writeLocked(proto.Encode(proto.Heartbeat, nil)) != nil {
			return
		}
		quiet = 0
	}
	c.beat.timer.Reset(c.s.Heartbeat - quiet)
}
