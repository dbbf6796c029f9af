package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bhatti/lohar/internal/proto"
)

func TestHelloIsChecked(t *testing.T) {
	hello := slices.Clip(proto.Encode(proto.Hello, fmt.Appendf(nil, `{"v":3,"nonce":"%x"}`, hostNonce)))
	_, addr := startServer(t, Options{Token: testToken})
	for name, c := range map[string]struct {
		frame []byte
		code  string
	}{
		"token in clear": {proto.Encode(proto.Hello, []byte(`{"v":2,"token":"`+testToken+`"}`)), "bad_request"},
		"no nonce":       {proto.Encode(proto.Hello, []byte(`{"v":3}`)), "bad_request"},
		"wrong proof":    {append(hello, proto.Encode(proto.Proof, make([]byte, proto.ProofSize))...), "unauthorized"},
		"short proof":    {append(hello, proto.Encode(proto.Proof, nil)...), "unauthorized"},
		"long proof":     {append(hello, proto.Encode(proto.Proof, make([]byte, 33))...), "bad_request"},
		"no proof":       {append(hello, proto.Encode(proto.Request, []byte(`{"op":"ping"}`))...), "unauthorized"},
		"wrong version":  {proto.Encode(proto.Hello, []byte(`{"v":1}`)), "bad_request"},
		"no JSON":        {proto.Encode(proto.Hello, []byte(`{`)), "bad_request"},
		"request first":  {proto.Encode(proto.Request, []byte(`{}`)), "unauthorized"},
		"oversize":       {[]byte{0xff, 0xff, 0xff, 0xff, 1}, "bad_request"},
		"unknown type":   {[]byte{0, 0, 0, 1, 0x99}, "unauthorized"},
		"HTTP":           {[]byte("GET / HTTP/1.1\r\n\r\n"), "bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := rawClient(t, addr)
			if _, err := cl.nc.Write(c.frame); err != nil {
				t.Fatal(err)
			}
			cl.expectClosed(c.code)
		})
	}
}

// What listens on our port without the token can neither show it nor learn it: the host sees a proof that is none.
func TestGreetingProvesBothSides(t *testing.T) {
	_, addr := startServer(t, Options{Token: testToken})
	c := dialClient(t, addr, testToken)
	if !c.guestKnows {
		t.Error("the agent did not prove itself")
	}
	c.do("ping")
	other := rawClient(t, addr)
	other.greet(strings.Repeat("x", 32))
	if other.guestKnows {
		t.Error("a proof for any token")
	}
	other.expectClosed("unauthorized")
}

// A proof that was overheard is good for the connection it was made for alone.
func TestProofsCannotBeReplayed(t *testing.T) {
	_, addr := startServer(t, Options{Token: testToken})
	first := rawClient(t, addr)
	_, welcome := first.greet(testToken)
	var w struct{ Nonce string }
	_ = json.Unmarshal(welcome, &w)
	nonce, _ := proto.ParseNonce(w.Nonce)
	again := rawClient(t, addr)
	again.greet("")
	again.send(proto.Proof, proto.HostProof(proto.Key(testToken), hostNonce, nonce))
	again.expectClosed("unauthorized")
	first.do("ping")
}

func TestQuietRequestsBeat(t *testing.T) {
	_, addr := startServer(t, Options{Token: testToken, Heartbeat: 20 * time.Millisecond})
	c := dialClient(t, addr, testToken)
	if a := c.do("exec", "argv", sh("sleep 0.3")); a.beats < 3 || a.beats > 15 {
		t.Errorf("%d heartbeats in 300 ms", a.beats)
	}
	_, slow := startServer(t, Options{Token: testToken, Heartbeat: time.Second})
	if a := dialClient(t, slow, testToken).do("exec", "argv", sh("for i in $(seq 30); do echo $i; sleep 0.05; done")); a.beats > 0 {
		t.Errorf("%d heartbeats beside output", a.beats)
	}
	// Between requests nothing may arrive.
	_ = c.nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if typ, _, err := c.tryRecv(); err == nil {
		t.Errorf("frame %#x while idle", typ)
	}
}

func TestHostileFramesEndTheConnection(t *testing.T) {
	_, addr := startServer(t, Options{Token: testToken})
	for name, frame := range map[string][]byte{
		"oversize":         {0, 0x10, 0, 2, byte(proto.Stdin)},
		"length 0":         {0, 0, 0, 0, 0},
		"guest's type":     proto.Encode(proto.Stdout, nil),
		"second HELLO":     proto.Encode(proto.Hello, []byte(`{}`)),
		"STDIN while idle": proto.Encode(proto.Stdin, []byte("x")),
		"END while idle":   proto.Encode(proto.End, nil),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialClient(t, addr, testToken)
			if _, err := c.nc.Write(frame); err != nil {
				t.Fatal(err)
			}
			c.expectClosed("bad_request")
		})
	}
}

func TestWrongStateDuringRequests(t *testing.T) {
	_, addr := startServer(t, Options{Token: testToken})
	for name, frame := range map[string][]byte{
		"request": proto.Encode(proto.Request, []byte(`{}`)),
		"data":    proto.Encode(proto.Data, nil),
		"hello":   proto.Encode(proto.Hello, nil),
		"signal":  proto.Encode(proto.Signal, []byte(`{"signal":"NONSENSE"}`)),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialClient(t, addr, testToken)
			c.request("exec", "argv", []string{"sleep", "60"})
			c.send(proto.Type(frame[4]), frame[5:])
			c.expectClosed("bad_request")
		})
	}
}

func TestBadRequestsKeepTheConnection(t *testing.T) {
	_, c := configured(t)
	for _, payload := range []string{`[]`, `{`, `{"op":"nope","now":1}`, `{"op":"ping"}`, `{"op":"ping","now":-5}`, `{"op":"exec","now":NOW,"argv":"x"}`, `{"op":"exec","now":NOW,"argv":[]}`} {
		now, _ := json.Marshal(time.Now().UnixMilli())
		c.send(proto.Request, []byte(strings.ReplaceAll(payload, "NOW", string(now))))
		if a := c.answer(); a.code != "bad_request" {
			t.Errorf("%s: %v", payload, a.result)
		}
	}
	if a := c.do("ping"); a.code != "" {
		t.Fatal(a.result)
	}
}

func TestHalfFrameThenClose(t *testing.T) {
	s, addr := startServer(t, Options{Token: testToken})
	c := dialClient(t, addr, testToken)
	_, _ = c.nc.Write([]byte{0, 0, 1})
	c.nc.Close()
	eventually(t, "the connection is forgotten", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.conns) == 0
	})
}

func TestOneConnectionTooManyIsBusy(t *testing.T) {
	_, addr := startServer(t, Options{Token: testToken})
	var last *client
	for range maxConnections {
		last = dialClient(t, addr, testToken)
	}
	c := rawClient(t, addr)
	c.expectClosed("busy")
	last.nc.Close()
	eventually(t, "a place is free again", func() bool {
		c := rawClient(t, addr)
		defer c.nc.Close()
		c.sendJSON(proto.Hello, map[string]any{"v": 3, "nonce": strings.Repeat("0", 64)})
		typ, _, err := c.tryRecv()
		return err == nil && typ == proto.Welcome
	})
}

func TestPanicIsAnswered(t *testing.T) {
	operations["test.panic"] = operation{handle: func(*conn, []byte) (any, error) { panic("boom") }}
	t.Cleanup(func() { delete(operations, "test.panic") })
	_, c := configured(t)
	if a := c.do("test.panic"); a.code != "internal" {
		t.Fatal(a.result)
	}
	c.do("ping")
}

func TestUnconfiguredServesNothing(t *testing.T) {
	_, addr := startServer(t, Options{})
	c := dialClient(t, addr, "")
	for _, op := range []string{"exec", "file.read", "activity", "poweroff", "forward"} {
		if a := c.do(op); a.code != "not_configured" {
			t.Errorf("%s: %v", op, a.result)
		}
	}
	c.do("ping")
}
