package agent

import (
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"time"

	"bhatti/lohar/internal/files"
	"bhatti/lohar/internal/identity"
	"bhatti/lohar/internal/machine"
	"bhatti/lohar/internal/proc"
	"bhatti/lohar/internal/proto"
)

type configureRequest struct {
	Kind       string            `json:"kind"`
	Generation uint64            `json:"generation"`
	Now        int64             `json:"now"`
	Entropy    []byte            `json:"entropy"`
	Token      string            `json:"token"`
	Hostname   string            `json:"hostname"`
	MachineID  string            `json:"machine_id"`
	Resolver   []string          `json:"resolver"`
	Search     []string          `json:"search"`
	Env        map[string]string `json:"env"`
	Files      []injectedFile    `json:"files"`
	Volumes    []machine.Volume  `json:"volumes"`
	Init       string            `json:"init"`
	GrowRoot   bool              `json:"grow_root"`
	// InitEnv is the init script's alone, and is not kept.
	InitEnv map[string]string `json:"init_env"`
	// SecretFiles is the whole set; nil = as it is.
	SecretFiles []secretFile `json:"secret_files"`
}

type injectedFile struct {
	Path    string `json:"path"`
	Content string `json:"content"`
	Mode    string `json:"mode"`
}

// configure gives the guest its identity, fail closed: unless every step succeeds, nothing but configure is served and
// user processes stay frozen.
func configure(c *conn, r *configureRequest) (any, error) {
	began := time.Now()
	s := c.s
	if err := r.check(); err != nil {
		return nil, err
	}
	s.configuring.Lock()
	defer s.configuring.Unlock()
	configured, failed, generation := s.state()
	if configured && r.Generation < generation {
		return nil, fail("stale_generation", "a later generation is configured already")
	}
	if configured && !failed && r.Generation == generation && generation != 0 {
		return s.configureResult(nil, nil), nil
	}
	s.mu.Lock()
	halfway := s.failed
	if halfway == "" || r.Kind != "wake" {
		s.failed = r.Kind
	}
	s.mu.Unlock()
	if r.Kind == "wake" && halfway != "" && halfway != "wake" {
		// A wake sets no names: it must not make a half-made clone look whole.
		return nil, fail("not_configured", "the last configure, of kind "+halfway+", failed: repeat that one")
	}
	if r.Kind != "wake" && s.Machine.RefusesConfigure() {
		return nil, fail("internal", "refused by bhatti.test=refuse-configure")
	}
	warnings, err := s.becomeOneself(c, r, began)
	if err != nil {
		return nil, err
	}
	if err := s.provision(r); err != nil {
		return nil, err
	}
	var problems []string
	if r.SecretFiles != nil {
		if problems, err = s.deliver(r.Generation, r.SecretFiles); err != nil {
			return nil, inStep("secret", err)
		}
	}
	s.mu.Lock()
	s.token, s.generation = proto.Key(r.Token), r.Generation
	s.configured, s.failed = true, ""
	s.mu.Unlock()
	if err := s.thawUsers(); err != nil {
		s.Log("thaw: " + err.Error())
	}
	return s.configureResult(append(warnings, s.start(r)...), problems), nil
}

func (s *Server) configureResult(warnings, secretProblems []string) any {
	_, _, generation := s.state()
	return struct {
		Generation uint64   `json:"generation"`
		BootMS     int64    `json:"boot_ms"`
		Warnings   []string `json:"warnings,omitempty"`
		Problems   []string `json:"secret_problems,omitempty"`
	}{generation, s.boot.Milliseconds(), warnings, secretProblems}
}

// becomeOneself is the part that must not fail: randomness, clock, names, and nobody left from the time before.
func (s *Server) becomeOneself(c *conn, r *configureRequest, began time.Time) (warnings []string, err error) {
	m := s.Machine
	if err := m.AddEntropy(r.Entropy); err != nil {
		return nil, inStep("entropy", err)
	}
	if err := m.SetClock(time.UnixMilli(r.Now).Add(time.Since(began))); err != nil {
		return nil, inStep("clock", err)
	}
	if r.Kind != "wake" {
		if err := m.SetHostname(r.Hostname); err != nil {
			return nil, inStep("hostname", err)
		}
	}
	if root := m.Root(); root != "" {
		id := identity.Identity{Hostname: r.Hostname, MachineID: r.MachineID, Resolver: r.Resolver, Search: r.Search, Clone: r.Kind == "clone"}
		if r.Kind == "wake" {
			id.Hostname, id.MachineID = "", ""
		}
		if warnings, err = id.Apply(root); err != nil {
			return nil, inStep("identity", err)
		}
	}
	if err := m.FlushNeighbours(); err != nil {
		return nil, inStep("neighbours", err)
	}
	s.closeOthers(c)
	return warnings, nil
}

// provision brings what the sandbox was created with.
func (s *Server) provision(r *configureRequest) error {
	if r.Kind == "wake" {
		return nil
	}
	s.mu.Lock()
	if r.Kind == "boot" {
		s.env = map[string]string{}
	}
	maps.Copy(s.env, r.Env)
	s.mu.Unlock()
	for _, v := range r.Volumes { // before files, which may lie on them
		if err := s.Machine.Mount(v); err != nil {
			return inStep("volume", fmt.Errorf("%s on %s: %w", v.Device, v.Mount, err))
		}
	}
	if s.Machine.Root() == "" {
		return nil
	}
	for _, f := range r.Files {
		content := base64.NewDecoder(base64.StdEncoding, strings.NewReader(f.Content))
		if _, err := s.writeFile(f.Path, f.Mode, "", content); err != nil {
			return inStep("file", err)
		}
	}
	return nil
}

func (r *configureRequest) check() error {
	bad := func(what string) error { return fail("bad_request", what) }
	switch {
	case r.Kind != "boot" && r.Kind != "wake" && r.Kind != "clone":
		return bad("kind must be boot, wake or clone")
	case len(r.Entropy) < 32 || len(r.Entropy) > 1024:
		return bad("entropy must be at least 32 bytes (64 are meant) in base64")
	case len(r.Token) < 16 || len(r.Token) > 256:
		return bad("token must have 16 to 256 characters")
	case !identity.ValidHostname(r.Hostname):
		return bad("hostname must be 1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit")
	case r.MachineID != "" && !identity.ValidMachineID(r.MachineID):
		return bad("machine_id must be 32 hexadecimal digits")
	case !identity.ValidResolver(r.Resolver, r.Search):
		return bad("resolver must hold at most 3 IP addresses, search at most 6 domains")
	case !proc.ValidEnv(r.Env) || !proc.ValidEnv(r.InitEnv):
		return bad("env must not contain NUL, nor '=' in names")
	case strings.Contains(r.Init, "\x00"):
		return bad("init must not contain NUL")
	}
	for _, f := range r.Files {
		if err := checkPath(f.Path); err != nil {
			return err
		}
		if f.Mode != "" {
			if _, err := files.ParseMode(f.Mode); err != nil {
				return bad(err.Error())
			}
		}
		if _, err := base64.StdEncoding.DecodeString(f.Content); err != nil {
			return bad("content of " + f.Path + " is not base64")
		}
	}
	for _, f := range r.SecretFiles {
		if err := f.check(); err != nil {
			return err
		}
	}
	for _, v := range r.Volumes {
		if err := v.Check(); err != nil {
			return bad(err.Error())
		}
	}
	return nil
}
