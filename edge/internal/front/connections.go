package front

import (
	"net"
	"sync"
)

// connections bounds them: of all clients, and of one address.
type connections struct {
	mu       sync.Mutex
	all      int
	of       map[string]int
	max      int
	maxOfOne int
}

func newConnections(config Config) *connections {
	return &connections{of: map[string]int{}, max: config.MaxConnections, maxOfOne: config.MaxConnectionsPerPeer}
}

func (c *connections) enter(peer string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.max || c.of[peer] >= c.maxOfOne {
		return false
	}
	c.all++
	c.of[peer]++
	return true
}

func (c *connections) leave(peer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.of[peer]--; c.of[peer] == 0 {
		delete(c.of, peer)
	}
}

func (c *connections) limit(listener net.Listener) net.Listener { return &limited{listener, c} }

type limited struct {
	net.Listener
	count *connections
}

// Accept closes what is one too many at once: it costs nothing, and the others go on.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		if l.count.enter(peer) {
			return &counted{Conn: conn, leave: func() { l.count.leave(peer) }}, nil
		}
		conn.Close()
	}
}

type counted struct {
	net.Conn
	once  sync.Once
	leave func()
}

func (c *counted) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}

// CloseWrite passes a half-close on: an upgraded connection ends one way first.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
