package agent

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"bhatti/lohar/internal/files"
)

// opError is what the host sees in an ERROR frame.
type opError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Step of configure that failed.
	Step string `json:"step,omitempty"`
}

func (e *opError) Error() string { return e.Code + ": " + e.Message }

func fail(code, message string) error { return &opError{Code: code, Message: message} }

// inStep says which part of configure failed, and why. The host's own mistakes keep their code.
func inStep(step string, err error) error {
	if err == nil {
		return nil
	}
	var known *opError
	code, message := "configure_failed", err.Error()
	if errors.As(err, &known) {
		message = known.Message
		if known.Code == "bad_request" {
			code = known.Code
		}
	}
	return &opError{Code: code, Message: step + ": " + message, Step: step}
}

// errCancelled ends a request whose connection is gone; nobody is left to be told.
var errCancelled = errors.New("cancelled")

// protocolError ends the connection after an ERROR frame.
type protocolError struct{ message string }

func (e *protocolError) Error() string { return e.message }

// fromOS gives an error of the operating system its code.
func fromOS(err error) error {
	var known *opError
	var broken *protocolError
	var kind *files.KindError
	if errors.As(err, &kind) {
		if kind.Kind == files.Directory {
			return fail("is_a_directory", err.Error())
		}
		return fail("not_a_file", err.Error())
	}
	if err == nil || errors.As(err, &known) || errors.As(err, &broken) || err == errCancelled {
		return err
	}
	for _, c := range []struct {
		target error
		code   string
	}{
		{fs.ErrNotExist, "not_found"}, {fs.ErrPermission, "permission"}, {syscall.ENOTDIR, "not_a_directory"},
		{syscall.EISDIR, "is_a_directory"}, {syscall.ENOSPC, "no_space"}, {syscall.EDQUOT, "no_space"},
		{syscall.EFBIG, "too_large"}, {syscall.ENAMETOOLONG, "bad_request"}, {syscall.ELOOP, "bad_request"},
		{syscall.EINVAL, "bad_request"}, {os.ErrDeadlineExceeded, "timeout"}, {syscall.EROFS, "permission"},
	} {
		if errors.Is(err, c.target) {
			return fail(c.code, err.Error())
		}
	}
	return fail("io", err.Error())
}
