// Package proto is the frame codec of docs/guest-protocol.md.
package proto

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
)

// MaxFrame bounds type + payload, bytes.
const MaxFrame = 1<<20 + 1

// Version of the protocol.
const Version = 2

// Frame types.
const (
	Hello    = 0x01
	Welcome  = 0x02
	Request  = 0x03
	Result   = 0x04
	Error    = 0x05
	Stdin    = 0x10
	StdinEOF = 0x11
	Stdout   = 0x12
	Stderr   = 0x13
	Signal   = 0x14
	Started  = 0x15
	Data     = 0x20
	End      = 0x21
)

// ErrSize reports a frame length outside 1…MaxFrame.
var ErrSize = errors.New("frame length out of bounds")

// Read reads one frame. The length is checked before anything is allocated.
func Read(r io.Reader) (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n < 1 || n > MaxFrame {
		return 0, nil, ErrSize
	}
	payload := make([]byte, n-1)
	if _, err := io.ReadFull(r, payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return head[4], payload, nil
}

// Write writes one frame in a single call.
func Write(w io.Writer, kind byte, payload []byte) error {
	if len(payload) >= MaxFrame {
		return ErrSize
	}
	buf := make([]byte, 5+len(payload))
	binary.BigEndian.PutUint32(buf, uint32(len(payload)+1))
	buf[4] = kind
	copy(buf[5:], payload)
	_, err := w.Write(buf)
	return err
}

// WriteJSON writes v as the payload of one frame.
func WriteJSON(w io.Writer, kind byte, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return Write(w, kind, payload)
}
