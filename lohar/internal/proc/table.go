// Package proc starts, signals and reaps processes.
package proc

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// ErrFrozen refuses a spawn while user processes are frozen: the child would stop before its exec and take the
// spawning thread with it.
var ErrFrozen = errors.New("user processes are frozen")

// Table owns every child of this process. It alone calls wait4(-1) and hands statuses out, and it forks under the
// same lock, so a status can neither be lost nor be given to the wrong owner.
type Table struct {
	mu       sync.Mutex
	children map[int]*Process
	frozen   bool
}

// Process is a child that somebody waits for.
type Process struct {
	Pid    int
	Done   <-chan struct{} // closed after the exit was recorded
	done   chan struct{}
	status syscall.WaitStatus
}

// NewTable returns a table whose reaper runs for the life of this process.
func NewTable() *Table {
	t := &Table{children: map[int]*Process{}}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	go func() {
		for range c {
			t.reap()
		}
	}()
	return t
}

// reap collects every dead child, owned or adopted.
func (t *Table) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if p := t.children[pid]; p != nil {
			delete(t.children, pid)
			p.finish(ws)
		}
	}
}

// SetFrozen makes spawns fail with ErrFrozen, or lets them through again. When it returns no spawn is under way.
func (t *Table) SetFrozen(frozen bool) {
	t.mu.Lock()
	t.frozen = frozen
	t.mu.Unlock()
}

func (p *Process) finish(ws syscall.WaitStatus) {
	p.status = ws
	close(p.done)
}

// ExitCode is the exit status, or 128 + signal, with the signal's name (without SIG). Valid after Done.
func (p *Process) ExitCode() (code int, sig string) {
	if p.status.Signaled() {
		return 128 + int(p.status.Signal()), SignalName(p.status.Signal())
	}
	return p.status.ExitStatus(), ""
}

// SignalGroup signals the process group led by p. A group whose leader was reaped may live on in its members; the
// number stays taken as long as it has any.
func (p *Process) SignalGroup(sig syscall.Signal) error {
	return syscall.Kill(-p.Pid, sig)
}
