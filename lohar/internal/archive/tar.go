package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

var errTruncated = errors.New("the archive is cut off")

// segment of a sparse member: n bytes of data at an offset.
type segment struct{ at, n int64 }

// member is one plain file of a tar archive in GNU's format, as `tar --sparse` writes it.
type member struct {
	name     string
	size     int64 // of the file
	stored   int64 // of its data in the archive
	segments []segment
}

// Extents of a sparse file that are accepted: a terabyte in pieces of 4 MiB. Bounds the memory of a hostile map.
const maxSegments = 262_144

const record = 512

// next reads the header of the next member; io.EOF at the archive's end. Anything but a plain file is an error.
func next(r io.Reader) (*member, error) {
	var h [record]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, errTruncated
	}
	if h == [record]byte{} {
		return nil, io.EOF
	}
	sum, err := number(h[148:156])
	if err != nil || sum != checksum(&h) {
		return nil, errors.New("a header is damaged")
	}
	if string(h[257:262]) != "ustar" {
		return nil, errors.New("this is not a tar archive")
	}
	m := &member{name: text(h[0:100])}
	if m.stored, err = number(h[124:136]); err != nil {
		return nil, err
	}
	switch h[156] {
	case '0', 0:
		m.size = m.stored
		m.segments = []segment{{0, m.stored}}
	case 'S':
		if err := m.readMap(r, &h); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%q is not a plain file", m.name)
	}
	return m, nil
}

// readMap reads the map of a sparse member, which goes on in records behind the header.
func (m *member) readMap(r io.Reader, h *[record]byte) (err error) {
	if m.size, err = number(h[483:495]); err != nil {
		return err
	}
	entries, more := h[386:482], h[482] != 0
	var end, stored int64
	for {
		for i := 0; i+24 <= len(entries) && entries[i] != 0; i += 24 {
			at, err1 := number(entries[i : i+12])
			n, err2 := number(entries[i+12 : i+24])
			if err1 != nil || err2 != nil || at < end || n > m.size || at > m.size-n || len(m.segments) >= maxSegments {
				return fmt.Errorf("the map of %q is damaged", m.name)
			}
			if n > 0 {
				m.segments = append(m.segments, segment{at, n})
			}
			end, stored = at+n, stored+n
		}
		if !more {
			break
		}
		var extra [record]byte
		if _, err := io.ReadFull(r, extra[:]); err != nil {
			return errTruncated
		}
		entries, more = extra[:504], extra[504] != 0
	}
	if stored != m.stored {
		return fmt.Errorf("the map of %q is damaged", m.name)
	}
	return nil
}

// padding behind a member's data, bytes.
func (m *member) padding() int64 { return (record - m.stored%record) % record }

func checksum(h *[record]byte) (sum int64) {
	for i, c := range h {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	return sum
}

// number in a header: octal digits, or big-endian with the first bit set. Never negative.
func number(field []byte) (int64, error) {
	if field[0]&0x80 != 0 {
		var n int64
		for i, c := range field {
			if i == 0 {
				c &= 0x7f
			}
			if n > 1<<54 {
				return 0, errors.New("a number in the archive is out of range")
			}
			n = n<<8 | int64(c)
		}
		return n, nil
	}
	digits := strings.Trim(string(field), " \x00")
	if digits == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(digits, 8, 62)
	if err != nil {
		return 0, errors.New("a number in the archive is damaged")
	}
	return int64(n), nil
}

func text(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}
