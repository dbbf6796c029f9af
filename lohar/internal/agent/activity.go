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
	init     initStatus
}

// initStatus is what became of the script that the sandbox was created with. Ended ones stay until the machine's end.
type initStatus struct {
	// State: "" (none was given), running, exited (with ExitCode, and Signal when one ended it), failed (to start: Error).
	State    string `json:"state"`
	Pid      int    `json:"pid,omitempty"`
	ExitCode *int   `json:"exit_code,omitempty"`
	Signal   string `json:"signal,omitempty"`
	Error    string `json:"error,omitempty"`
	Log      string `json:"log,omitempty"`
	// Unix milliseconds.
	StartedAt int64 `json:"started_at,omitempty"`
	EndedAt   int64 `json:"ended_at,omitempty"`
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
	if a.working > 0 || a.detached > 0 || a.init.State == "running" {
		idle = 0
	}
	answer := map[string]any{
		"idle_ms": idle.Milliseconds(), "execs": a.execs, "detached": a.detached, "init_running": a.init.State == "running",
		"connections": connections, "busy_ms": c.s.Machine.BusyTime().Milliseconds(),
		"uptime_ms": bootTime().Milliseconds(),
	}
	if a.init.State != "" {
		answer["init"] = a.init
	}
	return answer, nil
}
