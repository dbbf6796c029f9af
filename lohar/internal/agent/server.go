// Package agent answers the host: docs/guest-protocol.md.
package agent

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"sync"
	"time"
)

// Set by main and boot.
var (
	// Version of the agent.
	Version = "dev"
	// RefuseClone makes configure of kind clone fail: the test of the host's fail-closed rule.
	RefuseClone bool
	// PowerOff ends the VM.
	PowerOff = func() {}
)

// maxConnections bounds control connections.
const maxConnections = 512

// Server is the state of the agent.
type Server struct {
	// inGuest is false on a developer's machine: nothing of the system is touched.
	inGuest bool

	mu         sync.Mutex
	configured bool
	tokenHash  [32]byte
	generation int64
	env        map[string]string
	conns      map[net.Conn]struct{}

	work activity
	jobs sync.Map
}

// NewServer makes an agent; without a token it waits for configure.
func NewServer(token string, inGuest bool) *Server {
	s := &Server{inGuest: inGuest, env: map[string]string{}, conns: map[net.Conn]struct{}{}}
	s.work.last = time.Now()
	if token != "" {
		s.configured = true
		s.tokenHash = sha256.Sum256([]byte(token))
	}
	return s
}

// ListenAndServe accepts connections until the listener fails.
func ListenAndServe(address string, s *Server) error {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	return s.Serve(l)
}

// Serve accepts connections on l.
func (s *Server) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				continue
			}
			return err
		}
		s.mu.Lock()
		full := len(s.conns) >= maxConnections
		if !full {
			s.conns[c] = struct{}{}
		}
		s.mu.Unlock()
		go func() {
			conn := newConn(s, c)
			if full {
				conn.fail(codeBusy, "too many connections")
				c.Close()
				return
			}
			defer s.forget(c)
			conn.serve()
		}()
	}
}

func (s *Server) forget(c net.Conn) {
	c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// closeOthers ends every control connection but keep: after a restore their peers are gone.
func (s *Server) closeOthers(keep net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c != keep {
			c.Close()
		}
	}
}

// authorized compares in constant time.
func (s *Server) authorized(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.configured {
		return token == ""
	}
	given := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(given[:], s.tokenHash[:]) == 1
}
