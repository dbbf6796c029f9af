package agent

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func ownUID() int { return os.Geteuid() }

// bootTime is the time since the kernel started.
func bootTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// isTransient tells accept errors that concern one connection, or pass, from the end of the listener.
func isTransient(err error) bool {
	for _, e := range []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isLocal reports whether the peer is on this machine.
func isLocal(nc net.Conn) bool {
	peer, ok1 := nc.RemoteAddr().(*net.TCPAddr)
	own, ok2 := nc.LocalAddr().(*net.TCPAddr)
	return ok1 && ok2 && (peer.IP.IsLoopback() || peer.IP.Equal(own.IP))
}

// hungUp reports whether the peer closed or reset the connection, even with unread data in front.
func hungUp(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(p, 0); err == nil && n > 0 {
			gone = p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
		}
	})
	return gone || err != nil
}
