// Package agent serves docs/guest-protocol.md.
package agent

import (
	"crypto/sha256"
	"net"
	"sync"
	"time"

	"bhatti/lohar/internal/machine"
	"bhatti/lohar/internal/proc"
	"bhatti/lohar/internal/proto"
	"bhatti/lohar/internal/secrets"
)

const (
	maxConnections = 512
	maxLingering   = 64
	helloTimeout   = 5 * time.Second
	maxClockSkew   = 250 * time.Millisecond
)

// Options of a Server.
type Options struct {
	Version string
	Machine machine.Machine
	// Token non-empty means configured from the start (generation 0).
	Token string
	// SwitchUser runs commands as the uid asked for; otherwise all run as this process.
	SwitchUser bool
	// RemoteOnly turns away peers inside this machine: guest processes must not take the host's connection slots.
	RemoteOnly bool
	// Heartbeat is how long a request may be silent; 0 = heartbeatEvery.
	Heartbeat time.Duration
	Log       func(message string)
}

// Server holds what all connections share.
type Server struct {
	Options
	table    *proc.Table
	activity activity
	secrets  secrets.Store
	port     int
	boot     time.Duration

	configuring sync.Mutex // held by configure; never together with a request of its own

	mu         sync.Mutex
	conns      map[*conn]struct{}
	lingering  int
	token      [sha256.Size]byte // proto.Key of it
	generation uint64
	configured bool
	failed     string // kind of a configure that did not succeed: nothing but configure is served
	env        map[string]string
	thawUser   *time.Timer
	thawFS     *time.Timer
}

// New returns a server; Serve starts it.
func New(o Options) *Server { return newServer(o, proc.NewTable()) }

// newServer lets several servers of one process share its only reaper.
func newServer(o Options, table *proc.Table) *Server {
	s := &Server{Options: o, table: table, conns: map[*conn]struct{}{}, env: map[string]string{}}
	s.secrets.Dir, s.secrets.Mount = secrets.Dir, secrets.MountTmpfs
	if o.Token != "" {
		s.token, s.configured = proto.Key(o.Token), true
	}
	if s.Heartbeat <= 0 {
		s.Heartbeat = heartbeatEvery
	}
	if s.Log == nil {
		s.Log = func(string) {}
	}
	s.activity.started = time.Now()
	s.activity.last = s.activity.started
	return s
}

// Serve accepts connections until the listener is closed.
func (s *Server) Serve(l net.Listener) error {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		s.port = a.Port
	}
	s.boot = bootTime()
	for {
		nc, err := l.Accept()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() || isTransient(err) {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		if s.RemoteOnly && isLocal(nc) {
			nc.Close()
			continue
		}
		c := newConn(s, nc)
		s.mu.Lock()
		full := len(s.conns) >= maxConnections
		if !full {
			s.conns[c] = struct{}{}
		}
		s.mu.Unlock()
		if full {
			go c.refuse("busy", "too many connections are open; close one first")
			continue
		}
		go c.run()
	}
}

// key proves who knows the token; locked is false before the first configure, when there is none.
func (s *Server) key() (key [sha256.Size]byte, locked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token, s.configured
}

func (s *Server) state() (configured, failed bool, generation uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.configured, s.failed != "", s.generation
}

// baseEnv is a copy of the configured environment.
func (s *Server) baseEnv() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	env := make(map[string]string, len(s.env))
	for k, v := range s.env {
		env[k] = v
	}
	return env
}

// user is the identity for uid, or nil when commands run as this process.
func (s *Server) user(uid uint32) (identity, credential *proc.User) {
	if !s.SwitchUser {
		uid = uint32(ownUID())
	}
	u := proc.LookupUser("/", uid)
	if !s.SwitchUser {
		return u, nil
	}
	return u, u
}

// closeOthers drops every connection but c.
func (s *Server) closeOthers(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range s.conns {
		if other != c {
			other.drop()
		}
	}
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}
