package agent

import (
	"encoding/json"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// detach starts a command that outlives its request; its output goes to a file of the user.
func detach(c *conn, payload []byte) (any, error) {
	var r execRequest
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, failf(codeBadRequest, "%v", err)
	}
	if !filepath.IsAbs(r.Output) {
		return nil, failf(codeBadRequest, "output_file must be absolute")
	}
	cmd, err := c.s.command(r.Argv, r.Env, r.Cwd, r.uid())
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(r.Output, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if info, err := out.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, failf(codeBadRequest, "output_file is not a regular file")
	}
	if c.s.inGuest {
		user := lookup(r.uid())
		if err := out.Chown(int(user.uid), int(user.gid)); err != nil {
			return nil, err
		}
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		return nil, err
	}
	defer null.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, out, out
	if err := start(cmd); err != nil {
		return nil, startError(r.Argv[0], err)
	}
	done := c.s.work.count(&c.s.work.detached)
	go func() { wait(cmd); done() }()
	return map[string]int{"pid": cmd.Process.Pid}, nil
}
