package agent

import (
	"crypto/rand"
	"encoding/base64"
	"io"
	"net"
)

// warm runs what every sandbox will run first, so that a machine that waits for its owner has it in its caches: a command,
// and the steps of an identity, with a placeholder. Only before configure: nothing of an owner is there yet, no process
// of it stays, and configure writes everything again.
func warm(c *conn, _ []byte) (any, error) {
	s := c.s
	s.mu.Lock()
	configured := s.configured
	s.mu.Unlock()
	if configured || !s.inGuest {
		return nil, nil
	}
	entropy := make([]byte, 64)
	if _, err := rand.Read(entropy); err != nil {
		return nil, err
	}
	placeholder := configureRequest{
		Kind: "boot", Entropy: base64.StdEncoding.EncodeToString(entropy), Hostname: "bhatti", GrowRoot: true,
		Resolver: []string{"169.254.77.1"}, Search: []string{"internal"},
	}
	if err := s.takeIdentity(&placeholder); err != nil {
		return nil, err
	}
	for _, argv := range [][]string{{"true"}, {"sh", "-c", "exit 0"}, {"true"}} {
		if cmd, err := s.command(argv, nil, "", 1000); err == nil {
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, far) }()
			_, _ = run(newConn(s, near), cmd, &execRequest{Argv: argv})
			near.Close()
		}
	}
	return nil, nil
}
