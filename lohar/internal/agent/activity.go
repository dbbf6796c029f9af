package agent

import (
	"sync"
	"time"
)

// activity counts what the guest is doing for the host, on the monotonic clock.
type activity struct {
	mu       sync.Mutex
	started  time.Time
	last     time.Time // when the last work ended
	working  int
	execs    int
	detached int
	init     bool
}

func (a *activity) begin() { a.change(func() { a.working++ }) }
func (a *activity) end()   { a.change(func() { a.working-- }) }

// change applies f and marks this moment as active.
func (a *activity) change(f func()) {
	a.mu.Lock()
	f()
	a.last = time.Now()
	a.mu.Unlock()
}

func reportActivity(c *conn, _ []byte) (any, error) {
	a := &c.s.activity
	c.s.mu.Lock()
	connections := len(c.s.conns)
	c.s.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	idle := time.Since(a.last)
	if a.working > 0 || a.detached > 0 || a.init {
		idle = 0
	}
	return map[string]any{
		"idle_ms": idle.Milliseconds(), "execs": a.execs, "detached": a.detached, "init_running": a.init,
		"connections": connections, "busy_ms": c.s.Machine.BusyTime().Milliseconds(),
		"uptime_ms": bootTime().Milliseconds(),
	}, nil
}
