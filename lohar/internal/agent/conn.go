package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"bhatti/lohar/internal/proto"
)

// conn is one connection of the host. A reader goroutine turns bytes into frames; the goroutine of run serves one
// request after the other.
type conn struct {
	s  *Server
	nc net.Conn

	frames chan proto.Frame // unbuffered: what nobody takes stays in the socket (back-pressure)
	gone   chan struct{}    // closed by the reader at its end, after readErr was set
	done   chan struct{}    // closed at the end of run
	// readErr is why the reader ended.
	readErr error

	wmu  sync.Mutex
	beat heartbeat // guarded by wmu
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{s: s, nc: nc, frames: make(chan proto.Frame), gone: make(chan struct{}), done: make(chan struct{})}
}

// run serves the connection to its end.
func (c *conn) run() {
	defer c.s.remove(c)
	defer c.nc.Close()
	defer close(c.done)
	r := bufio.NewReaderSize(c.nc, 4096)
	if err := c.hello(r); err != nil {
		c.sendError(err)
		c.linger()
		return
	}
	go c.read(r)
	err := c.serve()
	var broken *protocolError
	if errors.As(err, &broken) {
		c.sendError(fail("bad_request", broken.message))
		c.linger()
	}
}

// read delivers frames until the connection ends or breaks the rules.
func (c *conn) read(r *bufio.Reader) {
	defer close(c.gone)
	for {
		f, err := proto.Read(r)
		if err == nil && (f.Type == proto.Hello || f.Type == proto.Proof) {
			err = proto.ErrType
		}
		if err != nil {
			if errors.Is(err, proto.ErrLength) || errors.Is(err, proto.ErrType) {
				err = &protocolError{err.Error()}
			}
			c.readErr = err
			return
		}
		if !c.deliver(f) {
			c.readErr = errCancelled
			return
		}
	}
}

// deliver hands f to the request in progress. While nobody takes it, it watches for the end of the connection, which
// would otherwise hide behind unread data.
func (c *conn) deliver(f proto.Frame) bool {
	select {
	case c.frames <- f:
		return true
	case <-c.done:
		return false
	default:
	}
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case c.frames <- f:
			return true
		case <-c.done:
			return false
		case <-t.C:
			if hungUp(c.nc) {
				return false
			}
		}
	}
}

// serve handles requests until the connection ends; a *protocolError is left to be told to the host.
func (c *conn) serve() error {
	var late func(proto.Type) bool
	for {
		select {
		case <-c.gone:
			return c.readErr
		case f := <-c.frames:
			if f.Type != proto.Request {
				// Frames of the last request that were under way when it ended.
				if late != nil && late(f.Type) {
					continue
				}
				return &protocolError{"frame is not allowed in this state"}
			}
			op, served, err := c.request(f.Payload)
			if op.late != nil {
				late = either(late, op.late)
			}
			if err != nil || served && op.tunnel {
				return err
			}
		}
	}
}

// request serves one REQUEST up to its RESULT (served) or ERROR. It returns an error when the connection cannot go on.
func (c *conn) request(payload []byte) (op operation, served bool, err error) {
	var head struct {
		Op  string `json:"op"`
		Now int64  `json:"now"`
	}
	if json.Unmarshal(payload, &head) != nil {
		return op, false, c.sendError(fail("bad_request", "REQUEST is not a JSON object with op and now"))
	}
	op, known := operations[head.Op]
	if !known {
		return op, false, c.sendError(fail("bad_request", "unknown op"))
	}
	if err := c.s.admit(op); err != nil {
		return op, false, c.sendError(err)
	}
	if err := c.s.stepClock(head.Now); err != nil {
		return op, false, c.sendError(err)
	}
	if op.work {
		c.s.activity.begin()
		defer c.s.activity.end()
	}
	c.beginBeats()
	defer c.endBeats()
	result, err := c.guarded(op, payload)
	var broken *protocolError
	switch {
	case err == errCancelled, errors.As(err, &broken):
		return op, false, err
	case err != nil:
		c.endBeats()
		return op, false, c.sendError(err)
	case op.tunnel:
		return op, true, nil // it has sent its RESULT itself
	}
	c.endBeats() // none may follow the RESULT
	return op, true, c.sendJSON(proto.Result, result)
}

// guarded runs the handler and turns a panic into an error: a bug in one request must not end PID 1.
func (c *conn) guarded(op operation, payload []byte) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.s.Log(fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
			result, err = nil, fail("internal", "the agent failed on this request")
		}
	}()
	result, err = op.handle(c, payload)
	return result, fromOS(err)
}
