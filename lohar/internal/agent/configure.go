package agent

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type configureRequest struct {
	Kind       string            `json:"kind"`
	Generation int64             `json:"generation"`
	Now        int64             `json:"now"`
	Entropy    string            `json:"entropy"`
	Token      string            `json:"token"`
	Hostname   string            `json:"hostname"`
	MachineID  string            `json:"machine_id"`
	Resolver   []string          `json:"resolver"`
	Search     []string          `json:"search"`
	Env        map[string]string `json:"env"`
	Files      []struct {
		Path    string `json:"path"`
		Content string `json:"content"`
		Mode    string `json:"mode"`
	} `json:"files"`
	Volumes []struct {
		Device   string `json:"device"`
		Mount    string `json:"mount"`
		FS       string `json:"fs"`
		ReadOnly bool   `json:"read_only"`
	} `json:"volumes"`
	Init     string `json:"init"`
	GrowRoot bool   `json:"grow_root"`
}

// configure gives the machine its identity. User processes run (again) only after it succeeded: fail closed.
func configure(c *conn, payload []byte) (any, error) {
	s := c.s
	var r configureRequest
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, failf(codeBadRequest, "%v", err)
	}
	if r.Kind != "boot" && r.Kind != "wake" && r.Kind != "clone" {
		return nil, failf(codeBadRequest, "unknown kind %q", r.Kind)
	}
	if len(r.Token) < 16 {
		return nil, failf(codeBadRequest, "token is too short")
	}
	if RefuseClone && r.Kind != "wake" {
		return nil, failf(codeInternal, "configure refused (test)")
	}
	s.mu.Lock()
	generation := s.generation
	s.mu.Unlock()
	if r.Generation < generation {
		return nil, failf(codeStale, "generation %d is older than %d", r.Generation, generation)
	}
	answer := map[string]any{"generation": r.Generation, "boot_ms": uptimeMs()}
	if r.Generation == generation && generation != 0 {
		if s.inGuest {
			freeze(false)
		}
		return answer, nil
	}
	if s.inGuest {
		if err := s.takeIdentity(&r); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	s.tokenHash = sha256.Sum256([]byte(r.Token))
	s.configured = true
	s.generation = r.Generation
	for k, v := range r.Env {
		s.env[k] = v
	}
	s.mu.Unlock()
	s.closeOthers(c.c)
	if !s.inGuest {
		return answer, nil
	}
	for _, f := range r.Files {
		if err := s.putFile(f.Path, f.Content, f.Mode); err != nil {
			return nil, failf(codeOf(err), "file %s: %v", f.Path, err)
		}
	}
	for _, v := range r.Volumes {
		if err := mountVolume(v.Device, v.Mount, v.FS, v.ReadOnly); err != nil {
			return nil, failf(codeOf(err), "volume %s: %v", v.Mount, err)
		}
	}
	freeze(false)
	if r.Init != "" {
		s.startInit(r.Init)
	}
	if r.Kind != "boot" {
		go s.runHooks(r.Kind)
	}
	return answer, nil
}

// takeIdentity is the part that must succeed before any user process runs.
func (s *Server) takeIdentity(r *configureRequest) error {
	entropy, err := base64.StdEncoding.DecodeString(r.Entropy)
	if err != nil || len(entropy) < 32 {
		return failf(codeBadRequest, "entropy: at least 32 bytes of base64 expected")
	}
	if err := reseed(entropy); err != nil {
		return failf(codeInternal, "reseed: %v", err)
	}
	if r.Now > 0 {
		stepClock(r.Now)
	}
	if r.Kind != "wake" {
		if err := unix.Sethostname([]byte(r.Hostname)); err != nil {
			return failf(codeInternal, "hostname: %v", err)
		}
		if err := replace("/etc/hostname", r.Hostname+"\n", 0o644); err != nil {
			return err
		}
		if r.MachineID != "" {
			if err := replace("/etc/machine-id", r.MachineID+"\n", 0o444); err != nil {
				return err
			}
		}
		hosts := "127.0.0.1 localhost\n127.0.1.1 " + r.Hostname + "\n"
		if err := replace("/etc/hosts", hosts, 0o644); err != nil {
			return err
		}
		if r.Kind == "clone" {
			if err := renewHostKeys(); err != nil {
				return err
			}
		}
	}
	resolv := ""
	if len(r.Search) > 0 {
		resolv = "search " + strings.Join(r.Search, " ") + "\n"
	}
	for _, a := range r.Resolver {
		resolv += "nameserver " + a + "\n"
	}
	if old, err := os.ReadFile("/etc/resolv.conf"); err != nil || string(old) != resolv {
		if err := replace("/etc/resolv.conf", resolv, 0o644); err != nil {
			return err
		}
	}
	if r.GrowRoot {
		_ = growRoot() // a disk that did not grow is still a disk
	}
	return nil
}

// replace writes a file of the system whatever was there (a symlink to nowhere, say).
func replace(path, content string, mode os.FileMode) error {
	_ = os.MkdirAll(filepath.Dir(path), 0o755)
	tmp := path + ".bhatti-new"
	if err := os.WriteFile(tmp, []byte(content), mode); err != nil {
		return err
	}
	_ = os.Chmod(tmp, mode)
	return os.Rename(tmp, path)
}

func (s *Server) putFile(path, content, mode string) error {
	data, err := base64.StdEncoding.DecodeString(content)
	if err != nil {
		return failf(codeBadRequest, "content is not base64")
	}
	w, err := s.createFile(path, mode, 1000)
	if err != nil {
		return err
	}
	defer w.abort()
	if _, err := w.f.Write(data); err != nil {
		return err
	}
	return w.commit()
}

// renewHostKeys gives a clone SSH host keys of its own where the source had some.
func renewHostKeys() error {
	keys, _ := filepath.Glob("/etc/ssh/ssh_host_*_key*")
	if len(keys) == 0 {
		return nil
	}
	for _, k := range keys {
		if err := os.Remove(k); err != nil {
			return err
		}
	}
	cmd := exec.Command("/usr/bin/ssh-keygen", "-A")
	cmd.SysProcAttr = sysProcAttr()
	if err := start(cmd); err != nil {
		return nil // keys are gone, which is safe; sshd says so
	}
	go wait(cmd)
	return nil
}

func mountVolume(device, target, fs string, readOnly bool) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOATIME | unix.MS_NODEV | unix.MS_NOSUID)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(device, target, fs, flags, ""); err != nil {
		return err
	}
	if !readOnly {
		return os.Chown(target, 1000, 1000)
	}
	return nil
}

const initLog = "/var/log/bhatti-init.log"

// startInit runs the user's start script; it counts as work until it ends.
func (s *Server) startInit(script string) {
	cwd := "/workspace"
	if _, err := os.Stat(cwd); err != nil {
		cwd = ""
	}
	cmd, err := s.command([]string{"/bin/sh", "-c", script}, nil, cwd, 1000)
	if err != nil {
		return
	}
	_ = os.MkdirAll(filepath.Dir(initLog), 0o755)
	if out, err := os.OpenFile(initLog, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644); err == nil {
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
	}
	if err := start(cmd); err != nil {
		return
	}
	s.work.setInit(true)
	go func() { wait(cmd); s.work.setInit(false) }()
}

// runHooks runs /etc/bhatti/resume.d/* as root, one after the other, with the kind as argument.
func (s *Server) runHooks(kind string) {
	hooks, _ := filepath.Glob("/etc/bhatti/resume.d/*")
	for _, h := range hooks {
		cmd, err := s.command([]string{h, kind}, nil, "", 0)
		if err != nil || start(cmd) != nil {
			continue
		}
		timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		wait(cmd)
		timer.Stop()
	}
}
