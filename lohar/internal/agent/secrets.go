package agent

import (
	"errors"

	"bhatti/lohar/internal/files"
	"bhatti/lohar/internal/secrets"
)

type secretsRequest struct {
	Generation uint64       `json:"generation"`
	Files      []secretFile `json:"files"`
}

type secretFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
	Mode    string `json:"mode"`
	Owner   string `json:"owner"` // "" = uid 1000
}

func (f secretFile) check() error {
	if err := checkPath(f.Path); err != nil {
		return err
	}
	if perm, err := files.ParseMode(f.Mode); err != nil || perm > 0o777 {
		return fail("bad_request", "mode of "+f.Path+" must be octal, at most 777")
	}
	return nil
}

// replaceSecrets makes these the secrets of a guest that runs; between two calls readers see one set or the other, file by file.
func replaceSecrets(c *conn, r *secretsRequest) (any, error) {
	for _, f := range r.Files {
		if err := f.check(); err != nil {
			return nil, err
		}
	}
	problems, err := c.s.deliver(r.Generation, r.Files)
	if err != nil {
		return nil, err
	}
	return struct {
		Problems []string `json:"secret_problems,omitempty"`
	}{problems}, nil
}

// deliver hands over the whole set. What cannot be put where it belongs is told, and the rest is there all the same.
func (s *Server) deliver(generation uint64, list []secretFile) (problems []string, err error) {
	if s.Machine.Root() == "" {
		return nil, nil
	}
	usual := files.Owner{UID: -1, GID: -1}
	if identity, credential := s.user(1000); credential != nil {
		usual = files.Owner{UID: int(identity.UID), GID: int(identity.GID)}
	}
	set := make([]secrets.File, 0, len(list))
	for _, f := range list {
		owner := usual
		if f.Owner != "" {
			if owner, err = files.ParseOwner("/", f.Owner); err != nil {
				problems = append(problems, f.Path+": "+err.Error())
				continue
			}
		}
		mode, _ := files.ParseMode(f.Mode) // checked before
		set = append(set, secrets.File{Path: f.Path, Content: f.Content, Mode: mode, Owner: owner})
	}
	more, err := s.secrets.Replace(generation, usual, set)
	if errors.Is(err, secrets.ErrStale) {
		return nil, fail("stale_generation", err.Error())
	}
	if err != nil {
		return nil, fromOS(err)
	}
	return append(problems, more...), nil
}
