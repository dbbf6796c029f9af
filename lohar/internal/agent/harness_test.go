package agent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"bhatti/lohar/internal/machine"
	"bhatti/lohar/internal/proto"
	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

var testToken = "0123456789abcdef0123456789abcdef"

// One reaper per process: servers of all tests share the table of the first.
var sharedTable = sync.OnceValue(func() *Server {
	// Orphans come to us, as they do to process 1.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	return New(Options{Machine: machine.Recorder{}})
})

// startServer serves on a free port until the test ends.
func startServer(t *testing.T, o Options) (*Server, string) {
	t.Helper()
	if o.Machine == nil {
		o.Machine = machine.Recorder{}
	}
	shared := sharedTable()
	s := newServer(o, shared.table)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		l.Close()
		s.closeOthers(nil)
		<-done
	})
	return s, l.Addr().String()
}

func configured(t *testing.T) (*Server, *client) {
	s, addr := startServer(t, Options{Token: testToken})
	return s, dialClient(t, addr, testToken)
}

type client struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
	// guestKnows: the agent has proved that it knows the token.
	guestKnows bool
}

func rawClient(t *testing.T, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	return &client{t: t, nc: nc, r: bufio.NewReader(nc)}
}

func dialClient(t *testing.T, addr, token string) *client {
	t.Helper()
	c := rawClient(t, addr)
	if typ, b := c.greet(token); typ != proto.Welcome {
		t.Fatalf("no WELCOME: %#x %s", typ, b)
	}
	return c
}

var hostNonce = bytes.Repeat([]byte{7}, proto.NonceSize)

// greet does the host's part of the greeting, with token "" only up to the WELCOME.
func (c *client) greet(token string) (proto.Type, []byte) {
	c.t.Helper()
	c.sendJSON(proto.Hello, map[string]any{"v": 3, "nonce": hex.EncodeToString(hostNonce)})
	typ, b := c.recv()
	var w struct{ Nonce, Proof string }
	if typ == proto.Welcome && json.Unmarshal(b, &w) == nil && w.Nonce != "" && token != "" {
		ours, _ := hex.DecodeString(w.Nonce)
		c.guestKnows = w.Proof == hex.EncodeToString(proto.GuestProof(proto.Key(token), hostNonce, ours))
		c.send(proto.Proof, proto.HostProof(proto.Key(token), hostNonce, ours))
	}
	return typ, b
}

func (c *client) send(typ proto.Type, b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(proto.Encode(typ, b)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) sendJSON(typ proto.Type, v any) {
	c.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(typ, b)
}

func (c *client) recv() (proto.Type, []byte) {
	c.t.Helper()
	typ, b, err := c.tryRecv()
	if err != nil {
		c.t.Fatal(err)
	}
	return typ, b
}

func (c *client) tryRecv() (proto.Type, []byte, error) {
	var h [5]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(h[:])-1)
	_, err := io.ReadFull(c.r, b)
	return proto.Type(h[4]), b, err
}

// request sends a request; members come in pairs.
func (c *client) request(op string, members ...any) {
	c.t.Helper()
	m := map[string]any{"op": op, "now": time.Now().UnixMilli()}
	for i := 0; i < len(members); i += 2 {
		m[members[i].(string)] = members[i+1]
	}
	c.sendJSON(proto.Request, m)
}

// answer collects a request's frames up to its end.
type answer struct {
	started, out, err, data []byte
	result                  map[string]any
	code                    string
	beats                   int
}

func (c *client) answer() answer {
	c.t.Helper()
	var a answer
	for {
		typ, b := c.recv()
		switch typ {
		case proto.Started:
			a.started = b
		case proto.Stdout:
			a.out = append(a.out, b...)
		case proto.Stderr:
			a.err = append(a.err, b...)
		case proto.Data:
			a.data = append(a.data, b...)
		case proto.End:
		case proto.Heartbeat:
			a.beats++
		case proto.Result, proto.Error:
			if err := json.Unmarshal(b, &a.result); err != nil {
				c.t.Fatal(err)
			}
			if typ == proto.Error {
				a.code, _ = a.result["code"].(string)
			}
			return a
		default:
			c.t.Fatalf("unexpected frame %#x", typ)
		}
	}
}

func (c *client) do(op string, members ...any) answer {
	c.t.Helper()
	c.request(op, members...)
	return c.answer()
}

// expectClosed wants the end of the connection, after an ERROR of that code if code is set.
func (c *client) expectClosed(code string) {
	c.t.Helper()
	last := ""
	for {
		typ, b, err := c.tryRecv()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.t.Fatal("the connection is still open")
			}
			break
		}
		var e opError
		if typ == proto.Error && json.Unmarshal(b, &e) == nil {
			last = e.Code
		}
	}
	if last != code {
		c.t.Fatalf("closed with code %q, want %q", last, code)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}
