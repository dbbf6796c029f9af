package agent

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"bhatti/lohar/internal/proto"
	"golang.org/x/sys/unix"
)

// PokeMain runs on the host: it enters a namespace that has no owner yet and makes the waiting agent warm itself up.
//
//	lohar poke --netns NAME [--timeout 30s]
func PokeMain(args []string) int {
	fs := flag.NewFlagSet("poke", flag.ContinueOnError)
	netns := fs.String("netns", "", "network namespace")
	timeout := fs.Duration("timeout", 30*time.Second, "deadline")
	if fs.Parse(args) != nil || *netns == "" {
		return 2
	}
	if err := poke(*netns, time.Now().Add(*timeout)); err != nil {
		fmt.Fprintln(os.Stderr, "lohar poke:", err)
		return 1
	}
	return 0
}

func poke(netns string, deadline time.Time) error {
	runtime.LockOSThread()
	fd, err := unix.Open("/run/netns/"+filepath.Base(netns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return err
	}
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(sock), "guest")
	defer file.Close()
	left := unix.NsecToTimeval(time.Until(deadline).Nanoseconds())
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(sock, unix.SOL_SOCKET, option, &left); err != nil {
			return err
		}
	}
	address := &unix.SockaddrInet4{Port: 1024, Addr: [4]byte{169, 254, 77, 2}}
	if err := unix.Connect(sock, address); err != nil {
		return err
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(deadline)
	if err := proto.WriteJSON(conn, proto.Hello, map[string]any{"v": proto.Version, "token": ""}); err != nil {
		return err
	}
	// The refused configure takes the decoder's path without its effect.
	requests := []map[string]any{{"op": "warm"}, {"op": "configure", "kind": "none", "files": []any{}, "env": map[string]string{"a": "b"}}, {"op": "ping"}}
	for i := -1; i < len(requests); i++ {
		if i >= 0 {
			if err := proto.WriteJSON(conn, proto.Request, requests[i]); err != nil {
				return err
			}
		}
		kind, _, err := proto.Read(conn)
		if err != nil {
			return err
		}
		if kind == proto.Error && i < 1 {
			return errors.New("the agent refused")
		}
	}
	return nil
}
