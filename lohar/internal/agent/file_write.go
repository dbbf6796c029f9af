package agent

import (
	"io"
	"strconv"

	"bhatti/lohar/internal/files"
	"bhatti/lohar/internal/proto"
)

type fileWriteRequest struct {
	pathRequest
	Mode     string `json:"mode"`  // "" = keep, 0644 for a new file
	Owner    string `json:"owner"` // "" = keep, uid 1000 for a new file
	Size     *int64 `json:"size"`
	MaxBytes int64  `json:"max_bytes"`
}

// fileWrite makes what the host sends the content of a file, all or nothing.
func fileWrite(c *conn, r *fileWriteRequest) (any, error) {
	path, err := r.path()
	if err != nil {
		return nil, err
	}
	size := int64(-1)
	if r.Size != nil {
		size = *r.Size
	}
	if size < -1 || r.MaxBytes < 0 {
		return nil, fail("bad_request", "size and max_bytes must not be negative (size -1 = unknown)")
	}
	if r.MaxBytes > 0 && size > r.MaxBytes {
		return nil, fail("too_large", "the file is larger than "+strconv.FormatInt(r.MaxBytes, 10)+" bytes")
	}
	in := &dataReader{c: c, size: size, max: r.MaxBytes}
	n, err := c.s.writeFile(path, r.Mode, r.Owner, in)
	if err != nil {
		return nil, err
	}
	return map[string]int64{"size": n}, nil
}

// writeFile is files.Replace with the texts of a request.
func (s *Server) writeFile(path, mode, owner string, src io.Reader) (n int64, err error) {
	if err := checkPath(path); err != nil {
		return 0, err
	}
	o := files.Options{NewOwner: files.Owner{UID: -1, GID: -1}}
	if mode != "" {
		perm, err := files.ParseMode(mode)
		if err != nil {
			return 0, fail("bad_request", err.Error())
		}
		o.Mode = &perm
	}
	if identity, credential := s.user(1000); credential != nil {
		o.NewOwner = files.Owner{UID: int(identity.UID), GID: int(identity.GID)}
	}
	if owner != "" {
		parsed, err := files.ParseOwner("/", owner)
		if err != nil {
			return 0, fail("bad_request", err.Error())
		}
		o.Owner = &parsed
	}
	return files.Replace(path, o, src)
}

// dataReader yields the DATA frames of a request up to END.
type dataReader struct {
	c    *conn
	size int64 // announced; -1 = unknown
	max  int64 // 0 = no bound
	got  int64
	rest []byte
	end  bool
}

func (r *dataReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo spares the copy through a buffer.
func (r *dataReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err := r.fill(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
		n, err := w.Write(r.rest)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

func (r *dataReader) fill() error {
	if r.end {
		return io.EOF
	}
	f, err := r.c.next()
	if err != nil {
		return err
	}
	switch f.Type {
	case proto.Data:
		r.got += int64(len(f.Payload))
		if r.max > 0 && r.got > r.max {
			return fail("too_large", "more than "+strconv.FormatInt(r.max, 10)+" bytes arrived")
		}
		if r.size >= 0 && r.got > r.size {
			return fail("bad_request", "more bytes arrived than announced")
		}
		r.rest = f.Payload
		return nil
	case proto.End:
		r.end = true
		if r.size >= 0 && r.got != r.size {
			return fail("bad_request", "fewer bytes arrived than announced")
		}
		return io.EOF
	}
	return &protocolError{"frame is not allowed during file.write"}
}
