// edge faces the clients: it speaks HTTP and TLS with them, and HTTP with what runs in the guests, so that the daemon parses
// neither. It holds no key and no file, and ends with the daemon (end of its input). ARCHITECTURE.md, Life of a request.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"bhatti/edge/internal/confine"
	"bhatti/edge/internal/daemon"
	"bhatti/edge/internal/front"
)

// setup is what the daemon says on the command line: src/edge/protocol.ts.
type setup struct {
	// Becomes this user; 0 = stays what it is.
	UID int `json:"uid"`
	// Its file system from then on; holds the daemon's sockets.
	Root   string   `json:"root"`
	Listen []string `json:"listen"`
	front.Config
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "edge:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("this is a process of the daemon, not a command")
	}
	var s setup
	if err := json.Unmarshal([]byte(os.Args[1]), &s); err != nil {
		return err
	}
	listeners := make([]net.Listener, 0, len(s.Listen))
	urls := make([]string, 0, len(s.Listen))
	for _, address := range s.Listen {
		listener, err := listen(address)
		if err != nil {
			return err
		}
		listeners = append(listeners, listener)
		urls = append(urls, listener.Addr().String())
	}
	inside := s.Root
	if err := confine.Enter(s.Root, s.UID); err != nil {
		return err
	}
	if s.UID != 0 {
		inside = ""
	}
	var server *front.Server
	ended := make(chan struct{})
	control := daemon.NewControl(os.Stdout, inside+"/tunnels.sock", func(order daemon.Order) {
		if order.Do == "drain" {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(order.Ms)*time.Millisecond)
				defer cancel()
				server.Shutdown(ctx)
				close(ended)
			}()
		}
	})
	server = front.New(s.Config, control, inside+"/api.sock")
	for _, listener := range listeners {
		go server.Serve(listener)
	}
	if err := control.Say(map[string]any{"do": "ready", "addresses": urls}); err != nil {
		return err
	}
	gone := make(chan error, 1)
	go func() { gone <- control.Read(os.Stdin) }()
	select {
	case <-gone:
	case <-ended:
	}
	return nil
}

// bindFor is how long an address that is taken is tried again: an edge whose daemon was killed may hold it for a moment.
const bindFor = 3 * time.Second

func listen(address string) (net.Listener, error) {
	for end := time.Now().Add(bindFor); ; time.Sleep(20 * time.Millisecond) {
		listener, err := net.Listen("tcp", address)
		if err == nil || time.Now().After(end) {
			return listener, err
		}
	}
}
