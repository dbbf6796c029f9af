package proc

import (
	"os"
	"runtime"
	"syscall"
)

// Spec says what to start. Files are the child's descriptors 0, 1 and 2.
type Spec struct {
	Path     string
	Argv     []string
	Env      []string
	Dir      string
	Files    [3]uintptr
	User     *User // nil = as this process
	Setsid   bool  // a session of its own; otherwise only a process group of its own
	CgroupFD int   // descriptor of the cgroup to be born in; <= 0 = stay in ours
}

// Spawn starts a process and registers it before its exit can be seen. Errors are the errno of fork, chdir or exec, or
// ErrFrozen.
func (t *Table) Spawn(s Spec) (*Process, error) {
	attr := &syscall.ProcAttr{Dir: s.Dir, Env: s.Env, Files: s.Files[:], Sys: &syscall.SysProcAttr{Setsid: s.Setsid, Setpgid: !s.Setsid}}
	if s.CgroupFD > 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, s.CgroupFD
	}
	if s.User != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: s.User.UID, Gid: s.User.GID, Groups: s.User.Groups}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return nil, ErrFrozen
	}
	pid, err := syscall.ForkExec(s.Path, s.Argv, attr)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	p := &Process{Pid: pid, Done: done, done: done}
	t.children[pid] = p
	return p, nil
}

// As runs f on a thread with the file system identity of u (effective for path look-ups and created files, including
// the loss of root's overrides), then lets that thread die. u nil or root runs f as it is.
func As(u *User, f func() error) error {
	if u == nil || u.UID == 0 || os.Geteuid() != 0 {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		result <- func() error {
			if err := setThreadFS(u); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-result
}
