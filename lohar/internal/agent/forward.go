package agent

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"bhatti/lohar/internal/proto"
)

// forward turns the connection into a tunnel to a TCP port of the guest.
func forward(c *conn, payload []byte) (any, error) {
	var r struct {
		Port int    `json:"port"`
		Host string `json:"host"`
	}
	if err := json.Unmarshal(payload, &r); err != nil || r.Port < 1 || r.Port > 65535 {
		return nil, failf(codeBadRequest, "port must be 1 to 65535")
	}
	if r.Host == "" {
		r.Host = "127.0.0.1"
	}
	target, err := net.DialTimeout("tcp", net.JoinHostPort(r.Host, strconv.Itoa(r.Port)), 10*time.Second)
	if err != nil {
		return nil, err
	}
	defer target.Close()
	if c.sendJSON(proto.Result, struct{}{}) != nil {
		return nil, errGone
	}
	c.hijack = true
	out := make(chan struct{})
	go func() {
		defer close(out)
		_, err := c.copyOut(target)
		if err != nil || c.send(proto.End, nil) != nil {
			c.c.Close()
		}
	}()
	for f := range c.frames {
		if f.kind == proto.End {
			if tcp, ok := target.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			continue
		}
		if f.kind != proto.Data {
			break
		}
		if _, err := target.Write(f.payload); err != nil {
			break
		}
	}
	target.Close()
	<-out
	return nil, nil
}

// listPorts reads the listening TCP sockets from /proc.
func listPorts(_ *conn, _ []byte) (any, error) {
	type port struct {
		Port    int    `json:"port"`
		Address string `json:"address"`
	}
	found := map[int]string{}
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			parts := strings.Fields(s.Text())
			const listening = "0A"
			if len(parts) < 4 || parts[3] != listening {
				continue
			}
			address, hexPort, _ := strings.Cut(parts[1], ":")
			n, err := strconv.ParseInt(hexPort, 16, 32)
			if err != nil || n == 1024 {
				continue
			}
			if _, seen := found[int(n)]; !seen {
				found[int(n)] = readable(address)
			}
		}
		f.Close()
	}
	ports := []port{}
	for n, a := range found {
		ports = append(ports, port{n, a})
	}
	return map[string]any{"ports": ports}, nil
}

// readable turns the kernel's little-endian hex words into an address.
func readable(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil || len(b)%4 != 0 {
		return s
	}
	for i := 0; i < len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	return fmt.Sprint(net.IP(b))
}
