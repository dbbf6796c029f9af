package agent

import (
	"io"
	"strings"

	"bhatti/lohar/internal/proto"
)

// dataWriter cuts a stream into DATA frames, built in place.
type dataWriter struct {
	c    *conn
	buf  []byte // header room and what is collected so far
	left int64  // bytes that may still be sent; -1 = no bound
	sent int64
}

// add collects b and sends full frames; full says that the bound is reached.
func (w *dataWriter) add(b []byte) (full bool, err error) {
	if w.left >= 0 && int64(len(b)) >= w.left {
		b, full = b[:w.left], true
	}
	for len(b) > 0 {
		w.room()
		n := min(len(b), proto.HeaderSize+proto.MaxData-len(w.buf))
		w.buf = append(w.buf, b[:n]...)
		b = b[n:]
		if w.left >= 0 {
			w.left -= int64(n)
		}
		if len(w.buf) == proto.HeaderSize+proto.MaxData {
			if err := w.flush(); err != nil {
				return full, err
			}
		}
	}
	return full, nil
}

// copyFrom sends r up to its end or the bound.
func (w *dataWriter) copyFrom(r io.Reader) error {
	for w.left != 0 {
		w.room()
		room := int64(proto.MaxData)
		if w.left >= 0 {
			room = min(room, w.left)
		}
		n, err := r.Read(w.buf[:cap(w.buf)][proto.HeaderSize : proto.HeaderSize+room])
		w.buf = w.buf[:proto.HeaderSize+n]
		if w.left >= 0 {
			w.left -= int64(n)
		}
		if err := w.flush(); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *dataWriter) room() {
	if w.buf == nil {
		w.buf = make([]byte, proto.HeaderSize, proto.HeaderSize+proto.MaxData)
	}
}

// flush sends what is collected.
func (w *dataWriter) flush() error {
	n := len(w.buf) - proto.HeaderSize
	if n <= 0 {
		return nil
	}
	proto.PutHeader(w.buf, proto.Data, n)
	err := w.c.write(w.buf)
	w.sent += int64(n)
	w.buf = w.buf[:proto.HeaderSize]
	return err
}

// finish sends the rest and END.
func (w *dataWriter) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.c.send(proto.End, nil)
}

// checkPath accepts absolute paths that the kernel can take.
func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") || len(path) > 4095 {
		return fail("bad_request", "a path must be absolute, without NUL and shorter than 4096 bytes")
	}
	return nil
}
