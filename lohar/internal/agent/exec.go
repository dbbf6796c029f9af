package agent

import (
	"encoding/json"
	"os"
	"syscall"
	"time"

	"bhatti/lohar/internal/proc"
	"bhatti/lohar/internal/proto"
)

// drainGrace is how long output is awaited after the command ended while a background descendant holds the pipe.
const drainGrace = 200 * time.Millisecond

type execRequest struct {
	command
	TimeoutMS int64 `json:"timeout_ms"`
	Stdin     bool  `json:"stdin"`
}

type execResult struct {
	ExitCode int    `json:"exit_code"`
	Signal   string `json:"signal,omitempty"`
	TimedOut bool   `json:"timed_out"`
}

// exec runs a command to its end. Its process group dies when the connection does, or at the timeout.
func exec(c *conn, r *execRequest) (any, error) {
	if r.TimeoutMS < 0 || r.TimeoutMS > int64(365*24*time.Hour/time.Millisecond) {
		return nil, fail("bad_request", "timeout_ms must be between 0 and a year")
	}
	spec, err := c.s.spec(&r.command)
	if err != nil {
		return nil, err
	}
	io, err := openStreams(r.Stdin)
	if err != nil {
		return nil, err
	}
	defer io.close()
	spec.Files = io.child()
	p, err := c.s.spawn(spec)
	io.closeChild()
	if err != nil {
		return nil, err
	}
	c.s.activity.change(func() { c.s.activity.execs++ })
	defer c.s.activity.change(func() { c.s.activity.execs-- })
	if err := c.sendJSON(proto.Started, map[string]int{"pid": p.Pid}); err != nil {
		_ = p.SignalGroup(syscall.SIGKILL)
		return nil, err
	}
	return c.attend(p, io, time.Duration(r.TimeoutMS)*time.Millisecond)
}

// attend serves a running command: input and signals in, output out, until it has ended and its output is drained.
func (c *conn) attend(p *proc.Process, io *streams, timeout time.Duration) (any, error) {
	var alarm <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		alarm = t.C
	}
	stdin := newFeeder(io.stdin)
	defer stdin.stop()
	pumps := io.pump(c)
	exited, timedOut := p.Done, false
	for pumps != nil || exited != nil {
		frames := c.frames
		if stdin.full() {
			frames = nil // the command does not read: nor do we
		}
		select {
		case <-exited:
			exited = nil
			io.drain(drainGrace)
		case <-pumps:
			pumps = nil
		case <-alarm:
			timedOut, alarm = exited != nil, nil
			if timedOut {
				_ = p.SignalGroup(syscall.SIGKILL)
			}
		case stdin.queue() <- stdin.pending:
			stdin.pending = nil
		case f := <-frames:
			if err := c.input(p, stdin, f, exited != nil); err != nil {
				_ = p.SignalGroup(syscall.SIGKILL)
				return nil, err
			}
		case <-c.gone:
			_ = p.SignalGroup(syscall.SIGKILL)
			return nil, c.lost()
		}
	}
	code, sig := p.ExitCode()
	return execResult{code, sig, timedOut}, nil
}

// input handles one frame of the host during an exec.
func (c *conn) input(p *proc.Process, stdin *feeder, f proto.Frame, running bool) error {
	switch f.Type {
	case proto.Stdin:
		switch {
		case stdin.file == nil: // the rest of an earlier command's input
		case stdin.ended:
			return &protocolError{"STDIN after its end"}
		default:
			stdin.pending = f.Payload
		}
	case proto.StdinEOF:
		stdin.end()
	case proto.Signal:
		var s struct {
			Signal string `json:"signal"`
		}
		if json.Unmarshal(f.Payload, &s) != nil {
			return &protocolError{"SIGNAL is not JSON"}
		}
		sig := proc.ParseSignal(s.Signal)
		if sig == 0 {
			return &protocolError{"unknown signal"}
		}
		if running {
			_ = p.SignalGroup(sig)
		}
	default:
		return &protocolError{"frame is not allowed during exec"}
	}
	return nil
}

// feeder writes stdin from a goroutine of its own, so that a command that does not read blocks nothing else.
type feeder struct {
	file    *os.File // nil = no stdin
	work    chan []byte
	pending []byte // taken from the connection, not yet by the goroutine
	ended   bool
}

func newFeeder(file *os.File) *feeder {
	f := &feeder{file: file, work: make(chan []byte)}
	if file == nil {
		return f
	}
	go func() {
		broken := false
		for b := range f.work {
			if !broken {
				_, err := file.Write(b)
				broken = err != nil // nobody reads any more: the rest is dropped, as a shell's pipe would
			}
		}
		file.Close()
	}()
	return f
}

func (f *feeder) full() bool { return f.pending != nil }

// queue is the way to the goroutine, nil while there is nothing to hand over.
func (f *feeder) queue() chan<- []byte {
	if f.pending == nil {
		return nil
	}
	return f.work
}

// end closes stdin behind what was written.
func (f *feeder) end() {
	if !f.ended {
		f.ended = true
		close(f.work)
	}
}

// stop ends the goroutine even in the middle of a write.
func (f *feeder) stop() {
	f.end()
	if f.file != nil {
		f.file.Close()
	}
}
