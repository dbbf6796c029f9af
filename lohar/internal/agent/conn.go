package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"bhatti/lohar/internal/proto"
	"golang.org/x/sys/unix"
)

// Error codes of the protocol.
const (
	codeUnauthorized  = "unauthorized"
	codeNotConfigured = "not_configured"
	codeBusy          = "busy"
	codeBadRequest    = "bad_request"
	codeNotFound      = "not_found"
	codePermission    = "permission"
	codeNotDir        = "not_a_directory"
	codeIsDir         = "is_a_directory"
	codeTooLarge      = "too_large"
	codeNoSpace       = "no_space"
	codeExecNotFound  = "exec_not_found"
	codeExecNotExec   = "exec_not_executable"
	codeTimeout       = "timeout"
	codeRefused       = "connection_refused"
	codeIO            = "io"
	codeInternal      = "internal"
	codeStale         = "stale_generation"
)

// opError carries a code to the host.
type opError struct{ code, message string }

func (e *opError) Error() string { return e.message }

func failf(code, format string, args ...any) error {
	return &opError{code, fmt.Sprintf(format, args...)}
}

// codeOf maps errors of the system.
func codeOf(err error) string {
	var op *opError
	switch {
	case errors.As(err, &op):
		return op.code
	case errors.Is(err, os.ErrNotExist):
		return codeNotFound
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		return codePermission
	case errors.Is(err, unix.ENOTDIR):
		return codeNotDir
	case errors.Is(err, unix.EISDIR):
		return codeIsDir
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return codeNoSpace
	case errors.Is(err, unix.ECONNREFUSED):
		return codeRefused
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ELOOP):
		return codeBadRequest
	}
	return codeIO
}

type frame struct {
	kind    byte
	payload []byte
}

// conn is one control connection: requests one after the other.
type conn struct {
	s      *Server
	c      net.Conn
	wmu    sync.Mutex
	hijack bool
	// frames delivers what the one reader of the connection reads; closed when the peer is gone.
	frames chan frame
	done   chan struct{}
}

func newConn(s *Server, c net.Conn) *conn {
	return &conn{s: s, c: c, frames: make(chan frame), done: make(chan struct{})}
}

// readLoop is the only reader after HELLO, so that no request can swallow a frame of the next one.
func (c *conn) readLoop() {
	defer close(c.frames)
	for {
		kind, payload, err := proto.Read(c.c)
		if err != nil {
			if errors.Is(err, proto.ErrSize) {
				c.fail(codeBadRequest, err.Error())
			}
			return
		}
		select {
		case c.frames <- frame{kind, payload}:
		case <-c.done:
			return
		}
	}
}

func (c *conn) send(kind byte, payload []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return proto.Write(c.c, kind, payload)
}

func (c *conn) sendJSON(kind byte, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(kind, payload)
}

func (c *conn) fail(code, message string) {
	_ = c.sendJSON(proto.Error, map[string]string{"code": code, "message": message})
}

func (c *conn) serve() {
	if !c.hello() {
		return
	}
	defer close(c.done)
	go c.readLoop()
	for f := range c.frames {
		switch f.kind {
		case proto.Request:
			if !c.request(f.payload) {
				return
			}
		case proto.Stdin, proto.StdinEOF, proto.Signal:
			// Of a request that has ended already.
		default:
			c.fail(codeBadRequest, "request expected")
			return
		}
	}
}

func (c *conn) hello() bool {
	_ = c.c.SetReadDeadline(time.Now().Add(5 * time.Second))
	kind, payload, err := proto.Read(c.c)
	if err != nil || kind != proto.Hello {
		c.fail(codeBadRequest, "hello expected")
		return false
	}
	_ = c.c.SetReadDeadline(time.Time{})
	var hello struct {
		V     int    `json:"v"`
		Token string `json:"token"`
	}
	if json.Unmarshal(payload, &hello) != nil || hello.V != proto.Version {
		c.fail(codeBadRequest, "protocol version 2 expected")
		return false
	}
	if !c.s.authorized(hello.Token) {
		c.fail(codeUnauthorized, "wrong token")
		return false
	}
	c.s.mu.Lock()
	welcome := map[string]any{"v": proto.Version, "agent": Version, "configured": c.s.configured, "generation": c.s.generation}
	c.s.mu.Unlock()
	return c.sendJSON(proto.Welcome, welcome) == nil
}

// request serves one request; false ends the connection.
func (c *conn) request(payload []byte) (goOn bool) {
	var head struct {
		Op  string `json:"op"`
		Now int64  `json:"now"`
	}
	if err := json.Unmarshal(payload, &head); err != nil {
		c.fail(codeBadRequest, "request is not JSON")
		return false
	}
	defer func() {
		if r := recover(); r != nil {
			c.fail(codeInternal, fmt.Sprint("agent fault: ", r))
			goOn = false
		}
	}()
	op, known := operations[head.Op]
	if !known {
		c.fail(codeBadRequest, "unknown op "+head.Op)
		return true
	}
	c.s.mu.Lock()
	configured := c.s.configured
	c.s.mu.Unlock()
	if !configured && head.Op != "ping" && head.Op != "configure" && head.Op != "warm" {
		c.fail(codeNotConfigured, "the agent is not configured yet")
		return true
	}
	if c.s.inGuest && head.Now > 0 {
		stepClock(head.Now)
	}
	if !op.passive {
		done := c.s.work.begin()
		defer done()
	}
	result, err := op.run(c, payload)
	if errors.Is(err, errGone) {
		return false
	}
	if err != nil {
		c.fail(codeOf(err), err.Error())
		return !c.hijack && !op.stream
	}
	if c.hijack {
		return false
	}
	if result == nil {
		result = struct{}{}
	}
	return c.sendJSON(proto.Result, result) == nil
}

// errGone: the peer left in the middle of a request.
var errGone = errors.New("peer gone")

type operation struct {
	run func(c *conn, payload []byte) (any, error)
	// passive operations are not work: they do not count as activity.
	passive bool
	// stream operations end the connection on error: frames of the peer may still be under way.
	stream bool
}

var operations map[string]operation

func init() {
	operations = map[string]operation{
		"ping":          {run: func(*conn, []byte) (any, error) { return nil, nil }, passive: true},
		"configure":     {run: configure},
		"warm":          {run: warm, passive: true},
		"exec":          {run: execute},
		"exec.detach":   {run: detach},
		"file.read":     {run: readFile},
		"file.write":    {run: writeFile, stream: true},
		"file.stat":     {run: statFile},
		"file.list":     {run: listFiles},
		"activity":      {run: reportActivity, passive: true},
		"ports":         {run: listPorts, passive: true},
		"sync":          {run: func(*conn, []byte) (any, error) { unix.Sync(); return nil, nil }, passive: true},
		"forward":       {run: forward},
		"prepare_clone": {run: prepareClone, passive: true},
		"resume_source": {run: resumeSource, passive: true},
		"poweroff":      {run: powerOff},
	}
}
