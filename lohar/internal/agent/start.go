package agent

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	"bhatti/lohar/internal/identity"
)

const (
	resumeLog = "bhatti-resume.log"
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
		if err := s.runInit(r.Init, r.InitEnv); err != nil {
			s.activity.change(func() { s.activity.init = initStatus{State: "failed", Error: err.Error()} })
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
		p, _, err2 := s.logged(spec, resumeLog)
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
