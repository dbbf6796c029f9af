package agent

import (
	"os"
	"path/filepath"
	"time"

	"bhatti/lohar/internal/proc"
)

const initLog = "bhatti-init.log"

// logDirs: the second one for a root file system that cannot be written.
var logDirs = []string{"/var/log", "/run/bhatti/log"}

// runInit starts the user's script in the background with env beside the environment of all; `activity` tells what became of it.
func (s *Server) runInit(script string, env map[string]string) error {
	shell := "/bin/sh"
	if info, err := os.Stat("/bin/bash"); err == nil && info.Mode().IsRegular() {
		shell = "/bin/bash"
	}
	c := command{Argv: []string{shell, "-c", script}, Env: env, Cwd: "/"}
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
	p, log, err := s.logged(spec, initLog)
	if err != nil {
		return err
	}
	a := &s.activity
	a.change(func() { a.init = initStatus{State: "running", Pid: p.Pid, Log: log, StartedAt: time.Now().UnixMilli()} })
	go func() {
		<-p.Done
		code, signal := p.ExitCode()
		a.change(func() {
			a.init.State, a.init.ExitCode, a.init.Signal, a.init.EndedAt = "exited", &code, signal, time.Now().UnixMilli()
		})
	}()
	return nil
}

// logged starts spec in the background with its output in the first of logDirs that takes it.
func (s *Server) logged(spec proc.Spec, name string) (p *proc.Process, log string, err error) {
	for _, dir := range logDirs {
		if err = os.MkdirAll(dir, 0o755); err != nil {
			continue
		}
		log = filepath.Join(dir, name)
		if p, err = s.background(spec, log, true); err == nil {
			return p, log, nil
		}
	}
	return nil, "", err
}
