package agent

import (
	"io"
	"net"
	"testing"

	"bhatti/lohar/internal/proto"
)

// service accepts one connection and hands it to f.
func service(t *testing.T, f func(*net.TCPConn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		if nc, err := l.Accept(); err == nil {
			f(nc.(*net.TCPConn))
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func TestForwardHalfCloses(t *testing.T) {
	_, c := configured(t)
	port := service(t, func(nc *net.TCPConn) {
		defer nc.Close()
		b, _ := io.ReadAll(nc) // up to the host's END
		_, _ = nc.Write(append([]byte("got "), b...))
	})
	if a := c.do("forward", "port", port); a.code != "" {
		t.Fatal(a.result)
	}
	c.send(proto.Data, []byte("he"))
	c.send(proto.Data, []byte("llo"))
	c.send(proto.End, nil)
	var got []byte
	for {
		typ, b := c.recv()
		if typ == proto.End {
			break
		}
		got = append(got, b...)
	}
	if string(got) != "got hello" {
		t.Fatalf("%q", got)
	}
	c.expectClosed("")
}

func TestForwardServiceEndsFirst(t *testing.T) {
	_, c := configured(t)
	rest := make(chan string, 1)
	port := service(t, func(nc *net.TCPConn) {
		_, _ = nc.Write([]byte("bye"))
		_ = nc.CloseWrite()
		b, _ := io.ReadAll(nc)
		rest <- string(b)
		nc.Close()
	})
	c.do("forward", "port", port)
	if typ, b := c.recv(); typ != proto.Data || string(b) != "bye" {
		t.Fatal(typ, string(b))
	}
	if typ, _ := c.recv(); typ != proto.End {
		t.Fatal(typ)
	}
	c.send(proto.Data, []byte("still"))
	c.send(proto.End, nil)
	if got := <-rest; got != "still" {
		t.Fatal(got)
	}
}

func TestForwardRefusals(t *testing.T) {
	_, c := configured(t)
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	if a := c.do("forward", "port", port); a.code != "connection_refused" {
		t.Fatal(a.result)
	}
	if a := c.do("forward", "port", 0); a.code != "bad_request" {
		t.Fatal(a.result)
	}
	if a := c.do("forward", "port", 1, "host", "example.org"); a.code != "bad_request" {
		t.Fatal(a.result)
	}
	c.do("ping") // a refused tunnel leaves the connection as it was
}

// What `ports` lists can be reached, whatever address it listens on.
func TestForwardFindsTheAddress(t *testing.T) {
	for _, address := range []string{"127.0.0.2:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("%s: %v", address, err)
			continue
		}
		go func() {
			if nc, err := l.Accept(); err == nil {
				_, _ = nc.Write([]byte("here"))
				nc.Close()
			}
		}()
		_, c := configured(t)
		if a := c.do("forward", "port", l.Addr().(*net.TCPAddr).Port); a.code != "" {
			t.Fatal(address, a.result)
		}
		if typ, b := c.recv(); typ != proto.Data || string(b) != "here" {
			t.Fatalf("%s: %#x %s", address, typ, b)
		}
		l.Close()
	}
}

func TestForwardBadFrame(t *testing.T) {
	_, c := configured(t)
	port := service(t, func(nc *net.TCPConn) { _, _ = io.ReadAll(nc); nc.Close() })
	c.do("forward", "port", port)
	c.send(proto.Stdin, []byte("x"))
	c.expectClosed("bad_request")
}

func TestPortsAreListedWithoutOurs(t *testing.T) {
	s, c := configured(t)
	port := service(t, func(nc *net.TCPConn) { nc.Close() })
	found := false
	for _, p := range c.do("ports").result["ports"].([]any) {
		n := int(p.(map[string]any)["port"].(float64))
		found = found || n == port
		if n == s.port {
			t.Fatal("our own port is listed")
		}
	}
	if !found {
		t.Fatal("a listening port is missing")
	}
}

func TestParseListener(t *testing.T) {
	addr, port, ok := parseListener("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000")
	if !ok || port != 8080 || addr.String() != "127.0.0.1" {
		t.Fatal(addr, port, ok)
	}
	addr, port, ok = parseListener("   0: 00000000000000000000000001000000:0050 0:0 0A")
	if !ok || port != 80 || addr.String() != "::1" {
		t.Fatal(addr, port, ok)
	}
	if _, _, ok := parseListener("x: zz:1 b 0A"); ok {
		t.Fatal("nonsense was taken")
	}
}
