package agent

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// activity counts work in progress; idle time is measured on the monotonic clock.
type activity struct {
	mu       sync.Mutex
	running  int
	execs    int
	detached int
	init     bool
	last     time.Time
}

// begin notes work; the returned function ends it.
func (a *activity) begin() func() { return a.count(&a.running) }

func (a *activity) count(n *int) func() {
	a.mu.Lock()
	*n++
	a.last = time.Now()
	a.mu.Unlock()
	return func() {
		a.mu.Lock()
		*n--
		a.last = time.Now()
		a.mu.Unlock()
	}
}

func (a *activity) setInit(running bool) {
	a.mu.Lock()
	a.init = running
	a.last = time.Now()
	a.mu.Unlock()
}

func reportActivity(c *conn, _ []byte) (any, error) {
	a := &c.s.work
	a.mu.Lock()
	defer a.mu.Unlock()
	idle := time.Since(a.last).Milliseconds()
	if a.running > 0 || a.detached > 0 || a.init {
		idle = 0
	}
	c.s.mu.Lock()
	connections := len(c.s.conns)
	c.s.mu.Unlock()
	return map[string]any{
		"idle_ms": idle, "execs": a.execs, "detached": a.detached, "init_running": a.init,
		"connections": connections, "busy_ms": busyMs(), "uptime_ms": uptimeMs(),
	}, nil
}

// busyMs is the CPU time all processors spent on something, from /proc/stat (ticks of 10 ms).
func busyMs() int64 {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	var sum int64
	for i, f := range fields {
		if i == 0 || i == 4 || i == 5 { // name, idle, iowait
			continue
		}
		n, _ := strconv.ParseInt(f, 10, 64)
		sum += n
	}
	return sum * 10
}

func uptimeMs() int64 {
	b, _ := os.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(string(b), " ")
	seconds, _ := strconv.ParseFloat(first, 64)
	return int64(seconds * 1000)
}
