package agent

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// pipes connect a child with the agent.
type pipes struct {
	in, out, err                *os.File
	childIn, childOut, childErr *os.File
}

// openPipes makes them; without stdin the child reads an empty file.
func openPipes(stdin bool) (*pipes, error) {
	p := &pipes{}
	var err error
	if stdin {
		p.childIn, p.in, err = os.Pipe()
	} else {
		p.childIn, err = os.Open("/dev/null")
	}
	if err == nil {
		p.out, p.childOut, err = os.Pipe()
	}
	if err == nil {
		p.err, p.childErr, err = os.Pipe()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pipes) closeChild() { closeAll(p.childIn, p.childOut, p.childErr) }
func (p *pipes) close()      { p.closeChild(); closeAll(p.in, p.out, p.err) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// input feeds a child's stdin from a bounded queue.
type input struct {
	queue   chan []byte
	drained chan struct{}
	ended   bool
}

func newInput(f *os.File) *input {
	in := &input{queue: make(chan []byte, 8), drained: make(chan struct{}, 1)}
	go func() {
		for chunk := range in.queue {
			if f != nil {
				if _, err := f.Write(chunk); err != nil {
					f.Close()
					f = nil // the child does not want more; swallow the rest
				}
			}
			select {
			case in.drained <- struct{}{}:
			default:
			}
		}
		closeAll(f)
	}()
	return in
}

func (in *input) full() bool { return len(in.queue) == cap(in.queue) }

func (in *input) write(chunk []byte) {
	if !in.ended {
		in.queue <- chunk
	}
}

func (in *input) end() {
	if !in.ended {
		in.ended = true
		close(in.queue)
	}
}

func (in *input) close() { in.end() }

// established asks the kernel whether the peer is still there.
func established(c net.Conn) bool {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	state := uint8(0)
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			state = info.State
		}
	})
	const tcpEstablished = 1
	return state == tcpEstablished
}
