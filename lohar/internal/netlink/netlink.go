// Package netlink speaks just enough rtnetlink (rtnetlink(7)) to bring up one interface without any tool of the image.
package netlink

import (
	"encoding/binary"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn is a route netlink socket.
type Conn struct{ fd int }

// Open returns a socket that gives up on the kernel after 5 s.
func Open() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Conn{fd}, nil
}

// Close closes the socket.
func (c *Conn) Close() { unix.Close(c.fd) }

var order = binary.NativeEndian

// message builds a request: netlink header, fixed part, attributes.
type message struct{ buf []byte }

func newMessage(kind, flags uint16, fixed []byte) *message {
	m := &message{make([]byte, unix.NLMSG_HDRLEN, 128)}
	order.PutUint16(m.buf[4:], kind)
	order.PutUint16(m.buf[6:], flags|unix.NLM_F_REQUEST)
	m.buf = append(m.buf, fixed...)
	return m
}

func (m *message) attr(kind uint16, value []byte) *message {
	m.buf = order.AppendUint16(m.buf, uint16(4+len(value)))
	m.buf = order.AppendUint16(m.buf, kind)
	m.buf = append(m.buf, value...)
	for len(m.buf)%4 != 0 {
		m.buf = append(m.buf, 0)
	}
	return m
}

// do sends m and calls each for every answer up to the acknowledgement or the end of the dump.
func (c *Conn) do(m *message, each func(payload []byte)) error {
	order.PutUint32(m.buf, uint32(len(m.buf)))
	if err := unix.Sendto(c.fd, m.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return err
		}
		for _, a := range messages {
			switch a.Header.Type {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				if len(a.Data) < 4 {
					return errors.New("netlink: short answer")
				}
				if code := int32(order.Uint32(a.Data)); code != 0 {
					return syscall.Errno(-code)
				}
				return nil
			default:
				if each != nil {
					each(a.Data)
				}
			}
		}
	}
}

func ack(kind uint16, create bool, fixed []byte) *message {
	flags := uint16(unix.NLM_F_ACK)
	if create {
		flags |= unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	}
	return newMessage(kind, flags, fixed)
}

// Up sets the interface up.
func (c *Conn) Up(index int) error {
	fixed := make([]byte, unix.SizeofIfInfomsg)
	order.PutUint32(fixed[4:], uint32(index))
	order.PutUint32(fixed[8:], unix.IFF_UP)
	order.PutUint32(fixed[12:], unix.IFF_UP)
	return c.do(ack(unix.RTM_NEWLINK, false, fixed), nil)
}

// AddAddress gives the interface an IPv4 address.
func (c *Conn) AddAddress(index int, ip [4]byte, prefix byte) error {
	fixed := make([]byte, unix.SizeofIfAddrmsg)
	fixed[0], fixed[1] = unix.AF_INET, prefix
	order.PutUint32(fixed[4:], uint32(index))
	return c.do(ack(unix.RTM_NEWADDR, true, fixed).attr(unix.IFA_LOCAL, ip[:]).attr(unix.IFA_ADDRESS, ip[:]), nil)
}

// AddDefaultRoute sends everything else to gateway.
func (c *Conn) AddDefaultRoute(index int, gateway [4]byte) error {
	fixed := make([]byte, unix.SizeofRtMsg)
	fixed[0], fixed[4], fixed[5] = unix.AF_INET, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT
	fixed[7] = unix.RTN_UNICAST
	return c.do(ack(unix.RTM_NEWROUTE, true, fixed).attr(unix.RTA_GATEWAY, gateway[:]).
		attr(unix.RTA_OIF, order.AppendUint32(nil, uint32(index))), nil)
}

// neighbour is struct ndmsg.
func neighbour(index int, state uint16) []byte {
	fixed := make([]byte, 12)
	fixed[0] = unix.AF_INET
	order.PutUint32(fixed[4:], uint32(index))
	order.PutUint16(fixed[8:], state)
	return fixed
}

// AddNeighbour makes the link-layer address of ip known for ever.
func (c *Conn) AddNeighbour(index int, ip [4]byte, mac [6]byte) error {
	return c.do(ack(unix.RTM_NEWNEIGH, true, neighbour(index, unix.NUD_PERMANENT)).
		attr(unix.NDA_DST, ip[:]).attr(unix.NDA_LLADDR, mac[:]), nil)
}

// FlushNeighbours forgets the IPv4 neighbours that were learned; permanent ones stay.
func (c *Conn) FlushNeighbours() error {
	type entry struct {
		index int
		dst   []byte
	}
	var learned []entry
	err := c.do(newMessage(unix.RTM_GETNEIGH, unix.NLM_F_DUMP, neighbour(0, 0)), func(b []byte) {
		if len(b) < 12 || b[0] != unix.AF_INET || order.Uint16(b[8:])&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 {
			return
		}
		index := int(order.Uint32(b[4:]))
		for b = b[12:]; len(b) >= 4; {
			n := int(order.Uint16(b))
			if n < 4 || n > len(b) {
				return
			}
			if order.Uint16(b[2:]) == unix.NDA_DST {
				learned = append(learned, entry{index, append([]byte(nil), b[4:n]...)})
			}
			b = b[min(len(b), (n+3)&^3):]
		}
	})
	if err != nil {
		return err
	}
	for _, e := range learned {
		err := c.do(ack(unix.RTM_DELNEIGH, false, neighbour(e.index, 0)).attr(unix.NDA_DST, e.dst), nil)
		if err != nil && err != syscall.ENOENT {
			return err
		}
	}
	return nil
}
