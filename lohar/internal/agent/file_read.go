package agent

import (
	"bufio"
	"fmt"
	"io"

	"bhatti/lohar/internal/files"
	"bhatti/lohar/internal/proto"
)

type fileReadRequest struct {
	pathRequest
	Offset     int64  `json:"offset"`
	Length     *int64 `json:"length"`
	LineOffset int64  `json:"line_offset"`
	LineLimit  int64  `json:"line_limit"`
	MaxBytes   int64  `json:"max_bytes"`
}

type fileReadResult struct {
	Size int64 `json:"size"`
	Sent int64 `json:"sent"`
}

// fileRead streams a regular file, a range of its bytes or a range of its lines (byte-exact in every case).
func fileRead(c *conn, r *fileReadRequest) (any, error) {
	path, err := r.path()
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return nil, err
	}
	f, st, err := files.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if r.Offset > 0 {
		if _, err := f.Seek(r.Offset, io.SeekStart); err != nil {
			return nil, err
		}
	}
	limit := int64(-1) // bytes to send at most; -1 = all
	if r.MaxBytes > 0 {
		limit = r.MaxBytes
	}
	lines := r.LineOffset > 1 || r.LineLimit > 0
	if !lines {
		if r.Length != nil {
			limit = smaller(limit, *r.Length)
		}
	}
	// Files of /proc and /sys claim a size of 0: what will follow is unknown.
	length := int64(-1)
	if !lines && st.Size > 0 {
		limit = smaller(limit, max(0, st.Size-r.Offset))
		length = limit
	}
	err = c.sendJSON(proto.Started, map[string]any{"size": st.Size, "mode": modeString(st.Mode), "length": length})
	if err != nil {
		return nil, err
	}
	out := &dataWriter{c: c, left: limit}
	if lines {
		err = copyLines(out, f, r.LineOffset, r.LineLimit)
	} else {
		err = out.copyFrom(f)
	}
	if err == nil {
		err = out.finish()
	}
	if err != nil {
		return nil, err
	}
	return fileReadResult{st.Size, out.sent}, nil
}

func (r *fileReadRequest) check() error {
	if r.Offset < 0 || r.Length != nil && *r.Length < 0 || r.LineOffset < 0 || r.LineLimit < 0 || r.MaxBytes < 0 {
		return fail("bad_request", "offsets and limits must not be negative")
	}
	if (r.Offset > 0 || r.Length != nil) && (r.LineOffset > 0 || r.LineLimit > 0) {
		return fail("bad_request", "a range is either of bytes or of lines")
	}
	return nil
}

func smaller(limit, n int64) int64 {
	if limit < 0 || n < limit {
		return n
	}
	return limit
}

// copyLines sends limit lines (0 = all) from the 1-based line first on, of any length, with their own line ends.
func copyLines(out *dataWriter, f io.Reader, first, limit int64) error {
	r := bufio.NewReaderSize(f, 64<<10)
	line := int64(1)
	for {
		part, err := r.ReadSlice('\n')
		if len(part) > 0 && line >= first {
			if full, err := out.add(part); err != nil || full {
				return err
			}
		} else if out.c.cancelled() {
			return errCancelled
		}
		switch err {
		case nil:
			line++
			if limit > 0 && line >= max(first, 1)+limit {
				return nil
			}
		case bufio.ErrBufferFull:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

func modeString(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }
