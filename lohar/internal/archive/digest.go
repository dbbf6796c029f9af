package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const block = 4096

var zeros [block]byte

// Digest of a file's content, the same whether zeros are stored or are a hole: SHA-256 over each block of 4096 bytes that
// is not all zeros, its number before it, in order; at last the file's size.
type Digest struct {
	h    hash.Hash
	head [8]byte
}

func NewDigest() *Digest { return &Digest{h: sha256.New()} }

// Block adds one block; a short one (the file's last) counts as filled up with zeros. True when it is not all zeros.
func (d *Digest) Block(number int64, b []byte) bool {
	if bytes.Equal(b, zeros[:len(b)]) {
		return false
	}
	binary.LittleEndian.PutUint64(d.head[:], uint64(number))
	d.h.Write(d.head[:])
	d.h.Write(b)
	d.h.Write(zeros[len(b):])
	return true
}

// Sum ends the digest.
func (d *Digest) Sum(size int64) string {
	binary.LittleEndian.PutUint64(d.head[:], uint64(size))
	d.h.Write(d.head[:])
	return hex.EncodeToString(d.h.Sum(nil))
}

// fileFacts reads the data of a plain file; holes are jumped over. read is told of the bytes that were read.
func fileFacts(path string, read func(f *os.File, at, n int64)) (Facts, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return Facts{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Facts{}, err
	}
	if !info.Mode().IsRegular() {
		return Facts{}, fmt.Errorf("%s is not a plain file", path)
	}
	facts := Facts{Size: info.Size()}
	digest := NewDigest()
	buffer := make([]byte, 256*block)
	for at := int64(0); at < facts.Size; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			return Facts{}, err
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return Facts{}, err
		}
		facts.Data += end - start
		// Extents end where the file system's blocks do, which may be smaller than ours.
		from := max(start/block*block, at)
		for from < min(end, facts.Size) {
			n, err := f.ReadAt(buffer[:min(int64(len(buffer)), (end-from+block-1)/block*block)], from)
			if err != nil && !(errors.Is(err, io.EOF) && n > 0) {
				return Facts{}, err
			}
			for i := 0; i < n; i += block {
				digest.Block((from+int64(i))/block, buffer[i:min(i+block, n)])
			}
			read(f, from, int64(n))
			from += int64(n)
		}
		at = max(from, end)
	}
	facts.Sha256 = digest.Sum(facts.Size)
	// tar looks for holes only where blocks are missing; otherwise it stores all.
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Blocks*512 >= facts.Size {
		facts.Data = facts.Size
	}
	return facts, nil
}
