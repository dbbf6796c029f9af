package proto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	for _, f := range []Frame{{Hello, []byte(`{}`)}, {Stdin, bytes.Repeat([]byte{7}, MaxPayload)}, {StdinEOF, nil}, {Data, make([]byte, MaxData)}} {
		got, err := Read(bytes.NewReader(Encode(f.Type, f.Payload)))
		if err != nil || got.Type != f.Type || !bytes.Equal(got.Payload, f.Payload) {
			t.Fatalf("type %#x: %v", f.Type, err)
		}
	}
}

func TestBounds(t *testing.T) {
	frame := func(length uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, length), rest...)
	}
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"empty":            {nil, io.EOF},
		"half header":      {[]byte{0, 0}, io.ErrUnexpectedEOF},
		"no type":          {frame(1), io.ErrUnexpectedEOF},
		"half payload":     {frame(9, byte(Stdin), 1, 2), io.ErrUnexpectedEOF},
		"length 0":         {frame(0, byte(Stdin)), ErrLength},
		"too long":         {frame(MaxPayload+2, byte(Stdin)), ErrLength},
		"4 GiB":            {frame(0xffffffff, byte(Stdin)), ErrLength},
		"long hello":       {frame(MaxHello+2, byte(Hello)), ErrLength},
		"long data":        {frame(MaxData+2, byte(Data)), ErrLength},
		"EOF with payload": {frame(2, byte(StdinEOF), 0), ErrLength},
		"unknown type":     {frame(1, 0x77), ErrType},
		"guest's type":     {frame(1, byte(Stdout)), ErrType},
	} {
		if _, err := Read(bytes.NewReader(c.in)); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(Encode(Hello, []byte(`{"v":2,"token":""}`)))
	f.Add(Encode(Request, []byte(`{"op":"ping","now":0}`)))
	f.Add(append(Encode(Stdin, []byte("x")), Encode(StdinEOF, nil)...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x10})
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 9, 0x20, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		for {
			frame, err := Read(r)
			if err != nil {
				return
			}
			again, err := Read(bytes.NewReader(Encode(frame.Type, frame.Payload)))
			if err != nil || again.Type != frame.Type || !bytes.Equal(again.Payload, frame.Payload) {
				t.Fatalf("does not round-trip: %v", err)
			}
		}
	})
}
