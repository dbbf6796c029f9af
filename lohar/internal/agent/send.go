package agent

import (
	"encoding/json"
	"io"
	"net"
	"time"

	"bhatti/lohar/internal/proto"
)

// write sends bytes that are a whole frame. A failure closes the connection, which ends the request.
func (c *conn) write(frame []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.writeLocked(frame)
}

func (c *conn) writeLocked(frame []byte) error {
	if _, err := c.nc.Write(frame); err != nil {
		c.nc.Close()
		return errCancelled
	}
	c.beat.last = time.Now()
	return nil
}

func (c *conn) send(t proto.Type, payload []byte) error {
	return c.write(proto.Encode(t, payload))
}

func (c *conn) sendJSON(t proto.Type, v any) error {
	payload, err := json.Marshal(v)
	if err != nil || len(payload) > proto.MaxPayload {
		return c.sendError(fail("internal", "the answer does not fit a frame"))
	}
	return c.send(t, payload)
}

// sendError tells the host what went wrong; long texts are cut.
func (c *conn) sendError(err error) error {
	e, ok := fromOS(err).(*opError)
	if !ok {
		return err
	}
	if len(e.Message) > 4096 {
		e = &opError{e.Code, e.Message[:4096], e.Step}
	}
	payload, _ := json.Marshal(e)
	return c.send(proto.Error, payload)
}

// refuse answers a connection that is not served.
func (c *conn) refuse(code, message string) {
	defer c.nc.Close()
	c.s.mu.Lock()
	c.s.lingering++
	many := c.s.lingering > maxLingering
	c.s.mu.Unlock()
	defer func() {
		c.s.mu.Lock()
		c.s.lingering--
		c.s.mu.Unlock()
	}()
	if many {
		return
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	_ = c.sendError(fail(code, message))
	c.linger()
}

// linger gives the peer a moment to read the last frame: closing with unread data would reset the connection and take
// that frame along.
func (c *conn) linger() {
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, c.nc, 4*proto.MaxPayload)
}

// drop closes the connection from outside; its request is cancelled.
func (c *conn) drop() { c.nc.Close() }

// cancelled reports whether the peer is gone.
func (c *conn) cancelled() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// next waits for the next frame of this request.
func (c *conn) next() (proto.Frame, error) {
	select {
	case f := <-c.frames:
		return f, nil
	case <-c.gone:
		return proto.Frame{}, c.lost()
	}
}

// lost is the error of a request whose connection ended: the peer's offence, or errCancelled. Only after gone.
func (c *conn) lost() error {
	if broken, ok := c.readErr.(*protocolError); ok {
		return broken
	}
	return errCancelled
}
