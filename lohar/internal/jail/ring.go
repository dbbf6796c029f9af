package jail

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ringSegment is the size of one of the two files of a ring, bytes. src/engine/ring.ts reads them.
	ringSegment = 128 << 10
	// ringRate bounds what a ring takes, bytes a second. Who prints more waits, or loses it: nobody but the printer suffers.
	ringRate = 512 << 10
)

// ring keeps the newest output in `path` and, once that is full, the output before it in `path.1`. Bounded for ever.
type ring struct {
	sync.Mutex
	path string
	file *os.File
	size int64
}

// openRing continues the ring, or begins it anew.
func openRing(path string, fresh bool) (*ring, error) {
	if fresh {
		for _, old := range []string{path, path + ".1"} {
			if err := os.Remove(old); err != nil && !os.IsNotExist(err) {
				return nil, err
			}
		}
	}
	r := &ring{path: path}
	return r, r.open()
}

func (r *ring) open() error {
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	r.file, r.size = f, info.Size()
	return nil
}

// Write never fails: what cannot be kept (a full disk) is lost, and the VMM goes on.
func (r *ring) Write(p []byte) (int, error) {
	r.Lock()
	defer r.Unlock()
	total := len(p)
	if len(p) > ringSegment {
		p = p[len(p)-ringSegment:]
	}
	if r.size+int64(len(p)) > ringSegment && os.Rename(r.path, r.path+".1") == nil {
		r.file.Close()
		if r.open() != nil {
			r.file, r.size = nil, 0
		}
	}
	if r.file != nil && r.size+int64(len(p)) <= ringSegment {
		n, _ := r.file.Write(p)
		r.size += int64(n)
	}
	return total, nil
}

// pump copies from until its end, at most ringRate.
func (r *ring) pump(from *os.File) {
	buffer := make([]byte, 16<<10)
	began, taken := time.Now(), 0
	for {
		n, err := from.Read(buffer)
		_, _ = r.Write(buffer[:n])
		if err != nil {
			return
		}
		if since := time.Since(began); since > time.Second {
			began, taken = time.Now(), 0
		} else if taken += n; taken > ringRate {
			time.Sleep(time.Second - since)
		}
	}
}
