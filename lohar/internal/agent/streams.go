package agent

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"bhatti/lohar/internal/proto"
	"golang.org/x/sys/unix"
)

// streams are the pipes of one command.
type streams struct {
	stdin    *os.File // our end; nil = /dev/null
	out, err *os.File
	theirs   [3]int
}

// openStreams makes the pipes. Only our ends are non-blocking: commands expect blocking ones.
func openStreams(stdin bool) (s *streams, err error) {
	s = &streams{theirs: [3]int{-1, -1, -1}}
	defer func() {
		if err != nil {
			s.closeChild()
			s.close()
		}
	}()
	if !stdin {
		if s.theirs[0], err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return nil, err
		}
	} else if s.stdin, s.theirs[0], err = pipe(true); err != nil {
		return nil, err
	}
	if s.out, s.theirs[1], err = pipe(false); err != nil {
		return nil, err
	}
	s.err, s.theirs[2], err = pipe(false)
	return s, err
}

// pipe returns our end (the writing one if write) and the child's.
func pipe(write bool) (ours *os.File, theirs int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, err
	}
	mine, theirs := p[0], p[1]
	if write {
		mine, theirs = p[1], p[0]
	}
	if err := unix.SetNonblock(mine, true); err != nil {
		unix.Close(mine)
		unix.Close(theirs)
		return nil, -1, err
	}
	return os.NewFile(uintptr(mine), "pipe"), theirs, nil
}

func (s *streams) child() [3]uintptr {
	return [3]uintptr{uintptr(s.theirs[0]), uintptr(s.theirs[1]), uintptr(s.theirs[2])}
}

func (s *streams) closeChild() {
	for i, fd := range s.theirs {
		if fd >= 0 {
			unix.Close(fd)
			s.theirs[i] = -1
		}
	}
}

func (s *streams) close() {
	for _, f := range []*os.File{s.stdin, s.out, s.err} {
		if f != nil {
			f.Close()
		}
	}
}

// pump copies both outputs to the host; the channel closes when both have ended.
func (s *streams) pump(c *conn) <-chan struct{} {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { copyOutput(c, s.out, proto.Stdout) })
	wg.Go(func() { copyOutput(c, s.err, proto.Stderr) })
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}

// drain ends the pumps after grace. What is in the pipes by then is still delivered.
func (s *streams) drain(grace time.Duration) {
	deadline := time.Now().Add(grace)
	_ = s.out.SetReadDeadline(deadline)
	_ = s.err.SetReadDeadline(deadline)
}

// copyOutput reads into the frame itself: one buffer, one write.
func copyOutput(c *conn, f *os.File, t proto.Type) {
	buf := make([]byte, proto.HeaderSize+proto.MaxOutput)
	for {
		n, err := f.Read(buf[proto.HeaderSize:])
		if n > 0 && !sendOutput(c, buf, t, n) {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			copyRest(c, f, t, buf)
			return
		}
		if err != nil {
			return
		}
	}
}

func sendOutput(c *conn, buf []byte, t proto.Type, n int) bool {
	proto.PutHeader(buf, t, n)
	return c.write(buf[:proto.HeaderSize+n]) == nil
}

// copyRest delivers what the pipe holds now, at most its capacity: a slow host must not lose the end of the output, and
// a descendant that writes for ever must not keep the request open.
func copyRest(c *conn, f *os.File, t proto.Type, buf []byte) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	left, n := 64<<10, 0
	_ = raw.Control(func(fd uintptr) {
		if size, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil {
			left = size
		}
	})
	for ; left > 0; left -= n {
		n = 0
		_ = raw.Control(func(fd uintptr) {
			for {
				var err error
				n, err = syscall.Read(int(fd), buf[proto.HeaderSize:])
				if err != syscall.EINTR {
					return
				}
			}
		})
		if n <= 0 || !sendOutput(c, buf, t, n) {
			return
		}
	}
}
