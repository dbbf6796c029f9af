package poke

import (
	"net"
	"testing"

	"bhatti/lohar/internal/agent"
	"bhatti/lohar/internal/machine"
)

func TestPokeLeavesTheAgentUnconfigured(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { _ = agent.New(agent.Options{Machine: machine.Recorder{}}).Serve(l) }()
	for range 2 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := poke(conn); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}
