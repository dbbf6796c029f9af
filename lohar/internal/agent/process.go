package agent

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const userCgroup = "/sys/fs/cgroup/user"

// children of ours: the orphan reaper leaves their exit status to whoever waits for them.
var children = struct {
	sync.Mutex
	pids map[int]struct{}
}{pids: map[int]struct{}{}}

// start starts cmd in the user cgroup; the child is known as ours before it can end.
func start(cmd *exec.Cmd) error {
	if fd, err := unix.Open(userCgroup, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		defer unix.Close(fd)
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = fd
	}
	children.Lock()
	defer children.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	children.pids[cmd.Process.Pid] = struct{}{}
	return nil
}

// wait reaps a child of ours.
func wait(cmd *exec.Cmd) {
	_ = cmd.Wait()
	children.Lock()
	delete(children.pids, cmd.Process.Pid)
	children.Unlock()
	select {
	case childReaped <- struct{}{}: // an orphan may have been hidden behind ours
	default:
	}
}

var childReaped = make(chan struct{}, 1)

// ReapOrphans collects processes that were left to PID 1. It looks before it takes, so it can never steal the exit status
// of a child that somebody waits for.
func ReapOrphans() {
	died := make(chan os.Signal, 16)
	signal.Notify(died, syscall.SIGCHLD)
	for {
		select {
		case <-died:
		case <-childReaped:
		case <-time.After(5 * time.Second):
		}
		for reapOne() {
		}
	}
}

// reapOne takes one orphan; false when there is none or the first zombie belongs to a waiter of ours.
func reapOne() bool {
	children.Lock()
	defer children.Unlock()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return false
	}
	pid := *(*int32)(unsafe.Add(unsafe.Pointer(&info), 16)) // si_pid
	if pid == 0 {
		return false
	}
	if _, ours := children.pids[int(pid)]; ours {
		return false
	}
	_, err := syscall.Wait4(int(pid), nil, syscall.WNOHANG, nil)
	return err == nil
}

// account is a user of the image.
type account struct {
	name   string
	uid    uint32
	gid    uint32
	home   string
	groups []uint32
}

// lookup reads /etc/passwd and /etc/group of the image; an unknown uid gets itself as group and / as home.
func lookup(uid int) account {
	a := account{uid: uint32(uid), gid: uint32(uid), home: "/"}
	for _, f := range fields("/etc/passwd", 7) {
		if id, err := strconv.Atoi(f[2]); err == nil && id == uid {
			gid, _ := strconv.Atoi(f[3])
			a.name, a.gid, a.home = f[0], uint32(gid), f[5]
			break
		}
	}
	if a.name == "" {
		return a
	}
	for _, f := range fields("/etc/group", 4) {
		for _, member := range strings.Split(f[3], ",") {
			if member == a.name {
				if gid, err := strconv.Atoi(f[2]); err == nil {
					a.groups = append(a.groups, uint32(gid))
				}
			}
		}
	}
	return a
}

func fields(path string, n int) [][]string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var out [][]string
	for s := bufio.NewScanner(f); s.Scan(); {
		if parts := strings.Split(s.Text(), ":"); len(parts) >= n {
			out = append(out, parts)
		}
	}
	return out
}

// command prepares argv as uid with the sandbox's environment. Errors carry exec_not_found / exec_not_executable.
func (s *Server) command(argv []string, env map[string]string, cwd string, uid int) (*exec.Cmd, error) {
	if len(argv) == 0 || len(argv) > 4096 {
		return nil, failf(codeBadRequest, "argv must have 1 to 4096 elements")
	}
	for _, a := range argv {
		if strings.IndexByte(a, 0) >= 0 {
			return nil, failf(codeBadRequest, "argv contains NUL")
		}
	}
	user := lookup(uid)
	merged := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"TERM": "xterm-256color", "LANG": "C.UTF-8", "HOME": user.home,
	}
	if user.name != "" {
		merged["USER"], merged["LOGNAME"] = user.name, user.name
	}
	s.mu.Lock()
	for k, v := range s.env {
		merged[k] = v
	}
	s.mu.Unlock()
	for k, v := range env {
		merged[k] = v
	}
	path, err := find(argv[0], merged["PATH"], cwd)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: path, Args: argv, Dir: cwd, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if cwd == "" {
		cmd.Dir = "/"
	} else if info, err := os.Stat(cwd); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, failf(codeNotDir, "%s is not a directory", cwd)
	}
	for k, v := range merged {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user.uid, Gid: user.gid, Groups: user.groups}
	}
	return cmd, nil
}

// find resolves a command like execvp with the child's PATH.
func find(name, path, cwd string) (string, error) {
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, dir := range strings.Split(path, ":") {
			candidates = append(candidates, dir+"/"+name)
		}
	} else if !strings.HasPrefix(name, "/") && cwd != "" {
		candidates = []string{cwd + "/" + name}
	}
	denied := false
	for _, c := range candidates {
		info, err := os.Stat(c)
		if err != nil {
			denied = denied || errors.Is(err, os.ErrPermission)
			continue
		}
		if info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return c, nil
		}
		denied = true
	}
	if denied {
		return "", failf(codeExecNotExec, "%s: permission denied", name)
	}
	return "", failf(codeExecNotFound, "%s: command not found", name)
}

// startError turns the kernel's refusal into a code.
func startError(name string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return failf(codeExecNotFound, "%s: not found (or its interpreter)", name)
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.ENOEXEC):
		return failf(codeExecNotExec, "%s: cannot execute", name)
	}
	return err
}
