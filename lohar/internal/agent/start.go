package agent

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	"bhatti/lohar/internal/identity"
)

const (
	initLog   = "/var/log/bhatti-init.log"
	resumeLog = "/var/log/bhatti-resume.log"
	hooksDir  = "/etc/bhatti/resume.d"
	// backgroundLimit bounds one hook and the making of SSH host keys.
	backgroundLimit = 2 * time.Minute
)

// start does what follows a successful configure; its failures are warnings, the guest is itself already.
func (s *Server) start(r *configureRequest) (warnings []string) {
	if s.Machine.Root() == "" {
		return nil
	}
	if r.GrowRoot {
		if err := s.Machine.GrowRoot(); err != nil {
			warnings = append(warnings, "the root file system was not grown: "+err.Error())
		}
	}
	if r.Init != "" && r.Kind != "wake" {
		if err := s.runInit(r.Init); err != nil {
			warnings = append(warnings, "init did not start: "+err.Error())
		}
	}
	go func() {
		if identity.WantsHostKeys(s.Machine.Root()) {
			s.runRoot([]string{"ssh-keygen", "-A"}, r.Kind)
			identity.ReloadSSH(s.Machine.Root())
		}
		if r.Kind != "boot" {
			s.runHooks(r.Kind)
		}
	}()
	return warnings
}

// runInit starts the user's script in the background.
func (s *Server) runInit(script string) error {
	shell := "/bin/sh"
	if info, err := os.Stat("/bin/bash"); err == nil && info.Mode().IsRegular() {
		shell = "/bin/bash"
	}
	c := command{Argv: []string{shell, "-c", script}, Cwd: "/"}
	if identity, _ := s.user(1000); isDir(identity.Home) {
		c.Cwd = identity.Home
	}
	if isDir("/workspace") {
		c.Cwd = "/workspace"
	}
	spec, err := s.spec(&c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(initLog), 0o755); err != nil {
		return err
	}
	p, err := s.background(spec, initLog, true)
	if err != nil {
		return err
	}
	a := &s.activity
	a.change(func() { a.init = true })
	go func() {
		<-p.Done
		a.change(func() { a.init = false })
	}()
	return nil
}

// runHooks runs the image's own scripts one after the other, as root.
func (s *Server) runHooks(kind string) {
	entries, err := os.ReadDir(hooksDir) // sorted by name
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(hooksDir, e.Name())); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			s.runRoot([]string{filepath.Join(hooksDir, e.Name()), kind}, kind)
		}
	}
}

// runRoot runs a command as root to its end, at most backgroundLimit.
func (s *Server) runRoot(argv []string, kind string) {
	root := uint32(0)
	spec, err := s.spec(&command{Argv: argv, Env: map[string]string{"BHATTI_KIND": kind}, UID: &root})
	if err == nil {
		_ = os.MkdirAll(filepath.Dir(resumeLog), 0o755)
		p, err2 := s.background(spec, resumeLog, true)
		if err = err2; err == nil {
			select {
			case <-p.Done:
			case <-time.After(backgroundLimit):
				_ = p.SignalGroup(syscall.SIGKILL)
			}
			return
		}
	}
	s.Log(argv[0] + ": " + err.Error())
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
