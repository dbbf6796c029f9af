package agent

import (
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"bhatti/lohar/internal/proto"
	"golang.org/x/sys/unix"
)

// drainGrace is how long output of background grandchildren is still read after the command itself has ended.
const drainGrace = 200 * time.Millisecond

type execRequest struct {
	Argv      []string          `json:"argv"`
	Env       map[string]string `json:"env"`
	Cwd       string            `json:"cwd"`
	UID       *int              `json:"uid"`
	TimeoutMs int64             `json:"timeout_ms"`
	Stdin     bool              `json:"stdin"`
	Output    string            `json:"output_file"`
}

func (r *execRequest) uid() int {
	if r.UID == nil {
		return 1000
	}
	return *r.UID
}

func execute(c *conn, payload []byte) (any, error) {
	var r execRequest
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, failf(codeBadRequest, "%v", err)
	}
	cmd, err := c.s.command(r.Argv, r.Env, r.Cwd, r.uid())
	if err != nil {
		return nil, err
	}
	defer c.s.work.count(&c.s.work.execs)()
	return run(c, cmd, &r)
}

func run(c *conn, cmd *exec.Cmd, r *execRequest) (any, error) {
	pipes, err := openPipes(r.Stdin)
	if err != nil {
		return nil, err
	}
	defer pipes.close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pipes.childIn, pipes.childOut, pipes.childErr
	if err := start(cmd); err != nil {
		return nil, startError(r.Argv[0], err)
	}
	pipes.closeChild()
	pid := cmd.Process.Pid
	kill := func(sig syscall.Signal) { _ = syscall.Kill(-pid, sig) }
	if err := c.sendJSON(proto.Started, map[string]int{"pid": pid}); err != nil {
		kill(syscall.SIGKILL)
	}

	exited := make(chan struct{})
	go func() { wait(cmd); close(exited) }()
	var readers sync.WaitGroup
	readers.Add(2)
	pump := func(f *os.File, kind byte) {
		defer readers.Done()
		buf := make([]byte, 32<<10)
		for {
			n, err := f.Read(buf)
			if n > 0 && c.send(kind, buf[:n]) != nil {
				kill(syscall.SIGKILL)
				return
			}
			if err != nil {
				return
			}
		}
	}
	go pump(pipes.out, proto.Stdout)
	go pump(pipes.err, proto.Stderr)
	drained := make(chan struct{})
	go func() { readers.Wait(); close(drained) }()

	timedOut, gone := attend(c, r, pipes.in, exited, kill)
	if gone {
		kill(syscall.SIGKILL)
		<-exited
		return nil, errGone
	}
	select {
	case <-drained:
	case <-time.After(drainGrace):
		// A daemon keeps the pipe. It may live on; its output has no reader any more.
		pipes.out.Close()
		pipes.err.Close()
		<-drained
	}
	result := map[string]any{"exit_code": 0, "timed_out": timedOut}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		result["exit_code"] = 128 + int(status.Signal())
		result["signal"] = unix.SignalName(status.Signal())[3:]
	} else {
		result["exit_code"] = status.ExitStatus()
	}
	return result, nil
}

// attend serves the host's frames until the command ends; it reports a passed timeout and a peer that left.
func attend(c *conn, r *execRequest, stdin *os.File, exited <-chan struct{}, kill func(syscall.Signal)) (timedOut, gone bool) {
	var deadline <-chan time.Time
	if r.TimeoutMs > 0 {
		t := time.NewTimer(time.Duration(r.TimeoutMs) * time.Millisecond)
		defer t.Stop()
		deadline = t.C
	}
	watch := time.NewTicker(time.Second)
	defer watch.Stop()
	input := newInput(stdin)
	defer input.close()
	frames := c.frames
	for {
		in := frames
		if input.full() {
			in = nil // back-pressure: the child does not read
		}
		select {
		case <-exited:
			return timedOut, false
		case <-deadline:
			timedOut, deadline = true, nil
			kill(syscall.SIGKILL)
		case <-input.drained:
		case <-watch.C:
			if in == nil && !established(c.c) {
				return timedOut, true
			}
		case f, ok := <-in:
			if !ok {
				return timedOut, true
			}
			switch f.kind {
			case proto.Stdin:
				input.write(f.payload)
			case proto.StdinEOF:
				input.end()
			case proto.Signal:
				var s struct {
					Signal string `json:"signal"`
				}
				if json.Unmarshal(f.payload, &s) == nil {
					if sig := unix.SignalNum("SIG" + s.Signal); sig != 0 {
						kill(sig)
					}
				}
			}
		}
	}
}
