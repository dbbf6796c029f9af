package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Control talks with the daemon: a JSON object a line, on the process's own input and output.
type Control struct {
	tunnels string

	out     sync.Mutex
	writer  io.Writer
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan Answer
	granted map[uint64]chan *Refusal
	orders  func(Order)
}

// Order is what the daemon says unasked.
type Order struct {
	Do string `json:"do"`
	Answer
	ID uint64 `json:"id"`
	// Of "drain": how long running requests may take, ms.
	Ms int `json:"ms"`
}

// NewControl writes to out; tunnels is the path of the daemon's socket for bytes.
func NewControl(out io.Writer, tunnels string, orders func(Order)) *Control {
	return &Control{
		tunnels: tunnels, writer: out, orders: orders,
		waiting: map[uint64]chan Answer{}, granted: map[uint64]chan *Refusal{},
	}
}

// Read obeys and hears answers until the daemon is gone.
func (c *Control) Read(in io.Reader) error {
	lines := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		var order Order
		if err := json.Unmarshal(line, &order); err != nil {
			return fmt.Errorf("the daemon's line: %w", err)
		}
		switch order.Do {
		case "answer":
			c.answer(order.ID, order.Answer)
		case "revoke":
			c.mu.Lock()
			revoked := c.granted[order.ID]
			c.mu.Unlock()
			if revoked != nil {
				select {
				case revoked <- order.Refusal:
				default:
				}
			}
		default:
			c.orders(order)
		}
	}
}

func (c *Control) answer(id uint64, answer Answer) {
	c.mu.Lock()
	waiting := c.waiting[id]
	delete(c.waiting, id)
	if waiting != nil && answer.Grant != nil {
		revoked := make(chan *Refusal, 1)
		answer.Grant.ID, answer.Grant.Revoked = id, revoked
		c.granted[id] = revoked
	}
	c.mu.Unlock()
	if waiting != nil {
		waiting <- answer
	} else if answer.Grant != nil {
		// Who asked has left, and said so.
		return
	}
}

// Say sends one message.
func (c *Control) Say(message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	c.out.Lock()
	defer c.out.Unlock()
	_, err = c.writer.Write(append(line, '\n'))
	return err
}

// Begin waits for the daemon's leave. Every Begin that returns a grant must be followed by End; the error is a *Refusal, or
// the context's when the client left first (the daemon has been told then).
func (c *Control) Begin(ctx context.Context, begin Begin) (*Grant, error) {
	answer := make(chan Answer, 1)
	c.mu.Lock()
	c.last++
	begin.ID = c.last
	c.waiting[begin.ID] = answer
	c.mu.Unlock()
	begin.Do = "begin"
	if err := c.Say(begin); err != nil {
		return nil, err
	}
	select {
	case a := <-answer:
		switch {
		case a.Grant != nil:
			return a.Grant, nil
		case a.Refusal != nil:
			return nil, a.Refusal
		}
		return nil, errors.New("the daemon's answer says nothing")
	case <-ctx.Done():
		c.End(begin.ID, 499, 0, 0)
		return nil, context.Cause(ctx)
	}
}

// End of a request. Idempotent for the daemon.
func (c *Control) End(id uint64, status int, in, out int64) {
	c.mu.Lock()
	delete(c.waiting, id)
	delete(c.granted, id)
	c.mu.Unlock()
	_ = c.Say(End{Do: "end", ID: id, Status: status, In: in, Out: out})
}

type opening struct {
	Grant uint64 `json:"grant"`
}

type opened struct {
	OK      bool   `json:"ok"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// TunnelError is why the daemon opened no tunnel.
type TunnelError struct{ Code, Message string }

func (e *TunnelError) Error() string { return e.Message }

// Dial opens a tunnel to the port of a grant: raw bytes from then on.
func (c *Control) Dial(ctx context.Context, grant *Grant) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.tunnels)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	line, _ := json.Marshal(opening{Grant: grant.ID})
	if _, err := conn.Write(append(line, '\n')); err != nil {
		conn.Close()
		return nil, err
	}
	answer, err := readLine(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	var o opened
	if err := json.Unmarshal(answer, &o); err != nil {
		conn.Close()
		return nil, err
	}
	if !o.OK {
		conn.Close()
		return nil, &TunnelError{Code: o.Code, Message: o.Message}
	}
	return conn, nil
}

// readLine takes a line and not a byte more: what follows belongs to the tunnel.
func readLine(conn net.Conn) ([]byte, error) {
	line := make([]byte, 0, 64)
	for one := make([]byte, 1); len(line) < 4096; {
		if _, err := conn.Read(one); err != nil {
			return nil, err
		}
		if one[0] == '\n' {
			return line, nil
		}
		line = append(line, one[0])
	}
	return nil, errors.New("the daemon's line is too long")
}
