package front

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// upgradedIdleFor ends an upgraded connection on which neither side says anything: it keeps a machine awake.
const upgradedIdleFor = time.Hour

// counter counts what a client sent.
type counter struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// watched notes what is answered.
type watched struct {
	http.ResponseWriter
	status  int
	in, out atomic.Int64
}

func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watched) WriteHeader(status int) {
	if status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.out.Add(int64(n))
	return n, err
}

// Hijack is how an upgraded connection is taken.
func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.status = http.StatusSwitchingProtocols
	return &upgraded{Conn: conn, w: w}, buffered, nil
}

type upgraded struct {
	net.Conn
	w *watched
}

func (u *upgraded) Read(p []byte) (int, error) {
	_ = u.SetReadDeadline(time.Now().Add(upgradedIdleFor))
	n, err := u.Conn.Read(p)
	u.w.in.Add(int64(n))
	return n, err
}

func (u *upgraded) Write(p []byte) (int, error) {
	_ = u.SetReadDeadline(time.Now().Add(upgradedIdleFor))
	n, err := u.Conn.Write(p)
	u.w.out.Add(int64(n))
	return n, err
}

func (u *upgraded) CloseWrite() error {
	if half, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return u.Close()
}
