// Package proto is the frame codec of docs/guest-protocol.md.
package proto

import (
	"encoding/binary"
	"errors"
	"io"
)

// Version of the protocol; there is only one.
const Version = 3

// Type says what a frame carries.
type Type byte

// Frame types, as in the table of docs/guest-protocol.md.
const (
	Hello   Type = 0x01
	Welcome Type = 0x02
	Request Type = 0x03
	Result  Type = 0x04
	Error   Type = 0x05
	// Heartbeat says that a request which is silent is still being served.
	Heartbeat Type = 0x06
	// Proof is the host's half of the mutual proof of the token.
	Proof    Type = 0x07
	Stdin    Type = 0x10
	StdinEOF Type = 0x11
	Stdout   Type = 0x12
	Stderr   Type = 0x13
	Signal   Type = 0x14
	Started  Type = 0x15
	Data     Type = 0x20
	End      Type = 0x21
)

// Bounds in bytes.
const (
	HeaderSize = 5
	MaxPayload = 1 << 20
	MaxOutput  = 32 << 10
	MaxData    = 256 << 10
	// MaxHello bounds what an unauthenticated peer can make us hold.
	MaxHello = 4 << 10
	// ProofSize is that of an HMAC-SHA256.
	ProofSize = 32
)

// Errors of Read besides those of the reader. io.EOF is a clean end at a frame boundary.
var (
	ErrLength = errors.New("frame length out of bounds")
	ErrType   = errors.New("unknown frame type or wrong direction")
)

// Frame is one message. The payload belongs to the frame.
type Frame struct {
	Type    Type
	Payload []byte
}

// maxFromHost is the largest payload that may follow a type sent by the host; -1 for types it may not send.
func maxFromHost(t Type) int {
	switch t {
	case Hello:
		return MaxHello
	case Proof:
		return ProofSize
	case Request, Stdin:
		return MaxPayload
	case Signal:
		return 256
	case Data:
		return MaxData
	case StdinEOF, End:
		return 0
	}
	return -1
}

// Read reads one frame sent by the host. Length and type are checked before anything is allocated.
func Read(r io.Reader) (Frame, error) { return read(r, maxFromHost) }

// Expect reads a frame that must be of type want: of a peer that has not proved itself nothing else is held.
func Expect(r io.Reader, want Type) (Frame, error) {
	return read(r, func(t Type) int {
		if t != want {
			return -1
		}
		return maxFromHost(t)
	})
}

func read(r io.Reader, bound func(Type) int) (Frame, error) {
	var header [HeaderSize]byte
	if _, err := io.ReadFull(r, header[:4]); err != nil {
		return Frame{}, err
	}
	length := binary.BigEndian.Uint32(header[:4])
	if length < 1 || length > MaxPayload+1 {
		return Frame{}, ErrLength
	}
	if _, err := io.ReadFull(r, header[4:]); err != nil {
		return Frame{}, unexpected(err)
	}
	t, size := Type(header[4]), int(length-1)
	limit := bound(t)
	if limit < 0 {
		return Frame{}, ErrType
	}
	if size > limit {
		return Frame{}, ErrLength
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return Frame{}, unexpected(err)
	}
	return Frame{t, payload}, nil
}

// ReadGuest reads one frame sent by the guest; the caller judges its type.
func ReadGuest(r io.Reader) (Frame, error) {
	var header [HeaderSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Frame{}, err
	}
	length := binary.BigEndian.Uint32(header[:4])
	if length < 1 || length > MaxPayload+1 {
		return Frame{}, ErrLength
	}
	payload := make([]byte, length-1)
	_, err := io.ReadFull(r, payload)
	return Frame{Type(header[4]), payload}, err
}

// PutHeader fills the first HeaderSize bytes of buf for a frame whose payload, of n bytes, follows in the same buffer.
func PutHeader(buf []byte, t Type, n int) {
	binary.BigEndian.PutUint32(buf, uint32(n+1))
	buf[4] = byte(t)
}

// Encode returns header and payload in one buffer. The caller keeps payloads within MaxPayload.
func Encode(t Type, payload []byte) []byte {
	buf := make([]byte, HeaderSize+len(payload))
	PutHeader(buf, t, len(payload))
	copy(buf[HeaderSize:], payload)
	return buf
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
