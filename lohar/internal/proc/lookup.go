package proc

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// DefaultPath is the PATH of commands that bring none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// LookPath finds the file of a command: name itself when it holds a slash (relative to dir), else the first executable
// of that name in path. It returns ENOENT when there is none, EACCES when what there is cannot be executed.
func LookPath(name, path, dir string) (string, error) {
	if strings.Contains(name, "/") {
		full := name
		if !filepath.IsAbs(full) {
			full = filepath.Join(dir, full)
		}
		return name, executable(full)
	}
	result := error(syscall.ENOENT)
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		full := filepath.Join(d, name)
		err := executable(full)
		if err == nil {
			return full, nil
		}
		if err == syscall.EACCES {
			result = err
		}
	}
	return "", result
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		if os.IsPermission(err) {
			return syscall.EACCES
		}
		return syscall.ENOENT
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return syscall.EACCES
	}
	return nil
}
