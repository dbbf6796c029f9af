package proto

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func FuzzRead(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 1})
	f.Add([]byte{0, 0, 0, 0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
	f.Add([]byte{0, 0x10, 0, 2, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		kind, payload, err := Read(bytes.NewReader(in))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := Write(&out, kind, payload); err != nil {
			t.Fatalf("a frame that was read cannot be written: %v", err)
		}
		if !bytes.Equal(out.Bytes(), in[:out.Len()]) {
			t.Fatal("round trip differs")
		}
	})
}

func TestBounds(t *testing.T) {
	for _, n := range []uint32{0, MaxFrame + 1, 1 << 31} {
		var head [5]byte
		binary.BigEndian.PutUint32(head[:], n)
		if _, _, err := Read(bytes.NewReader(head[:])); err != ErrSize {
			t.Fatalf("length %d: got %v", n, err)
		}
	}
	if err := Write(&bytes.Buffer{}, Data, make([]byte, MaxFrame)); err != ErrSize {
		t.Fatalf("oversized write: got %v", err)
	}
}
