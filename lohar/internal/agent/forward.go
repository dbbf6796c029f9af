package agent

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"bhatti/lohar/internal/proto"
)

type forwardRequest struct {
	Port uint16 `json:"port"`
	Host string `json:"host"`
}

const dialTimeout = 5 * time.Second

// forward turns the connection into a tunnel to a TCP port of the guest.
func forward(c *conn, r *forwardRequest) (any, error) {
	target, err := dialLocal(r.Host, r.Port)
	if err != nil {
		return nil, err
	}
	defer target.Close()
	if err := c.sendJSON(proto.Result, empty{}); err != nil {
		return nil, err
	}
	toHost := make(chan error, 1)
	go func() { toHost <- tunnelOut(c, target) }()
	toGuest := make(chan error, 1)
	stop := make(chan struct{})
	defer close(stop)
	go func() { toGuest <- tunnelIn(c, target, stop) }()
	for open := 2; open > 0; open-- {
		var err error
		select {
		case err = <-toHost:
		case err = <-toGuest:
		case <-c.gone:
			err = c.lost()
		}
		if err != nil {
			target.Close()
			if err == errCancelled { // either side broke: the other one learns it by the end of its connection
				c.nc.Close()
			}
			return nil, err
		}
	}
	c.linger()
	return nil, nil
}

// tunnelOut carries the service's bytes to the host up to its half-close.
func tunnelOut(c *conn, target *net.TCPConn) error {
	w := &dataWriter{c: c, left: -1}
	if err := w.copyFrom(target); err != nil {
		return errCancelled
	}
	return c.send(proto.End, nil)
}

// tunnelIn carries the host's bytes to the service up to END.
func tunnelIn(c *conn, target *net.TCPConn, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-c.gone:
			return c.lost()
		case f := <-c.frames:
			switch f.Type {
			case proto.Data:
				if _, err := target.Write(f.Payload); err != nil {
					return errCancelled
				}
			case proto.End:
				if err := target.CloseWrite(); err != nil {
					return errCancelled
				}
				return nil
			default:
				return &protocolError{"frame is not allowed in a tunnel"}
			}
		}
	}
}

// dialLocal connects to an address of the guest. Without one: to IPv4 loopback, IPv6 loopback, or the address that a
// program listens on for this port (its eth0, a bridge of its own).
func dialLocal(host string, port uint16) (*net.TCPConn, error) {
	if port == 0 {
		return nil, fail("bad_request", "port must be 1 to 65535")
	}
	if host != "" && host != "localhost" && host != "127.0.0.1" {
		addr, err := netip.ParseAddr(host)
		if err != nil || addr.Zone() != "" {
			return nil, fail("bad_request", "host must be an IP address")
		}
		return dial(addr, port)
	}
	first := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	conn, err := dial(first, port)
	if err == nil {
		return conn, nil
	}
	others := []netip.Addr{netip.IPv6Loopback()}
	eachListener(func(addr netip.Addr, p int) {
		if p == int(port) && !addr.IsUnspecified() && addr != first && len(others) < 16 {
			others = append(others, addr)
		}
	})
	for _, addr := range others {
		if conn, err2 := dial(addr, port); err2 == nil {
			return conn, nil
		}
	}
	return nil, err
}

func dial(addr netip.Addr, port uint16) (*net.TCPConn, error) {
	name := netip.AddrPortFrom(addr, port).String()
	nc, err := net.DialTimeout("tcp", name, dialTimeout)
	var ne net.Error
	switch {
	case err == nil:
		return nc.(*net.TCPConn), nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fail("connection_refused", "nothing listens on port "+strconv.Itoa(int(port)))
	case errors.As(err, &ne) && ne.Timeout():
		return nil, fail("timeout", "no connection to "+name+" within 5 s")
	}
	return nil, fail("connection_refused", err.Error())
}
