package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"bhatti/lohar/internal/proc"
	"golang.org/x/sys/unix"
)

const maxArguments = 4096

// command is what exec and exec.detach have in common.
type command struct {
	Argv []string          `json:"argv"`
	Env  map[string]string `json:"env"`
	Cwd  string            `json:"cwd"`
	UID  *uint32           `json:"uid"`
}

// spec validates the command and resolves it to something that can be spawned; descriptors are left to the caller.
func (s *Server) spec(c *command) (proc.Spec, error) {
	if len(c.Argv) == 0 || len(c.Argv) > maxArguments || c.Argv[0] == "" {
		return proc.Spec{}, fail("bad_request", "argv must hold 1 to 4096 strings, the first one not empty")
	}
	for _, a := range c.Argv {
		if strings.Contains(a, "\x00") {
			return proc.Spec{}, fail("bad_request", "argv must not contain NUL")
		}
	}
	if !proc.ValidEnv(c.Env) || strings.Contains(c.Cwd, "\x00") {
		return proc.Spec{}, fail("bad_request", "env and cwd must not contain NUL, names of variables no '='")
	}
	dir := c.Cwd
	if dir == "" {
		dir = "/"
	}
	if info, err := os.Stat(dir); err != nil {
		return proc.Spec{}, fromOS(fmt.Errorf("working directory: %w", err))
	} else if !info.IsDir() {
		return proc.Spec{}, fail("not_a_directory", "working directory: "+dir+" is not a directory")
	}
	uid := uint32(1000)
	if c.UID != nil {
		uid = *c.UID
	}
	identity, credential := s.user(uid)
	list, env := proc.Environment(identity, s.baseEnv(), c.Env)
	path, err := proc.LookPath(c.Argv[0], env["PATH"], dir)
	if err != nil {
		return proc.Spec{}, spawnError(c.Argv[0], err)
	}
	return proc.Spec{Path: path, Argv: c.Argv, Env: list, Dir: dir, User: credential, CgroupFD: s.Machine.UserCgroup()}, nil
}

// spawn starts spec. When the kernel refuses without saying what, the working directory is looked at first.
func (s *Server) spawn(spec proc.Spec) (*proc.Process, error) {
	p, err := s.table.Spawn(spec)
	if err == nil {
		return p, nil
	}
	if errors.Is(err, syscall.EACCES) {
		if proc.As(spec.User, func() error { return enter(spec.Dir) }) != nil {
			who := "the user"
			if spec.User != nil && spec.User.Name != "" {
				who = spec.User.Name
			}
			return nil, fail("permission", "working directory: "+who+" may not enter "+spec.Dir)
		}
	}
	return nil, spawnError(spec.Argv[0], err)
}

// enter reports whether dir can be searched.
func enter(dir string) error {
	fd, err := unix.Open(dir+"/.", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// spawnError names the reason why a command could not start.
func spawnError(name string, err error) error {
	switch {
	case errors.Is(err, proc.ErrFrozen):
		return fail("busy", "the sandbox is about to be cloned; try again in a moment")
	case errors.Is(err, syscall.ENOENT):
		return fail("exec_not_found", name+": no such command, or its interpreter is missing")
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.ENOEXEC), errors.Is(err, syscall.EPERM):
		return fail("exec_not_executable", name+": "+err.Error())
	case errors.Is(err, syscall.E2BIG):
		return fail("too_large", "arguments and environment are too long for the kernel")
	}
	if errors.Is(err, syscall.EAGAIN) {
		return fail("exhausted", name+": no more processes: the user's or the sandbox's limit is reached")
	}
	if errors.Is(err, syscall.ENOMEM) {
		return fail("exhausted", name+": the sandbox has no memory left for another process")
	}
	return fail("io", name+": "+err.Error())
}
