package agent

import (
	"os"
	"syscall"

	"bhatti/lohar/internal/files"
	"bhatti/lohar/internal/proc"
	"golang.org/x/sys/unix"
)

type detachRequest struct {
	command
	OutputFile string `json:"output_file"`
}

// detach starts a command that outlives the connection.
func detach(c *conn, r *detachRequest) (any, error) {
	if err := checkPath(r.OutputFile); err != nil {
		return nil, err
	}
	spec, err := c.s.spec(&r.command)
	if err != nil {
		return nil, err
	}
	p, err := c.s.background(spec, r.OutputFile, false)
	if err != nil {
		return nil, err
	}
	a := &c.s.activity
	a.change(func() { a.detached++ })
	go func() {
		<-p.Done
		a.change(func() { a.detached-- })
	}()
	return map[string]int{"pid": p.Pid}, nil
}

// background spawns spec in a session of its own with its output in path. The file is opened with the rights of the
// command's user (asRoot: with ours, then given to that user): a job cannot reach through the agent.
func (s *Server) background(spec proc.Spec, path string, asRoot bool) (*proc.Process, error) {
	var out *os.File
	opener := spec.User
	if asRoot {
		opener = nil
	}
	err := proc.As(opener, func() (err error) {
		out, err = openOutput(path)
		return err
	})
	if err != nil {
		return nil, fromOS(err)
	}
	defer out.Close()
	if asRoot && spec.User != nil {
		_ = out.Chown(int(spec.User.UID), int(spec.User.GID))
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	spec.Setsid = true
	spec.Files = [3]uintptr{null.Fd(), out.Fd(), out.Fd()}
	return s.spawn(spec)
}

// openOutput creates or empties a regular file (or opens /dev/null). It is appended to: whoever empties it later leaves no hole.
func openOutput(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0o644)
	if err == syscall.ENXIO {
		return nil, &files.KindError{Path: path, Kind: files.FIFO}
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	kind := files.KindOf(st.Mode)
	regular := kind == files.Regular
	if !regular && path != os.DevNull {
		unix.Close(fd)
		return nil, &files.KindError{Path: path, Kind: kind}
	}
	if regular {
		err = unix.Ftruncate(fd, 0)
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}
