package identity

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// memory is where files live that cover what the root file system does not let us write.
const memory = "run/bhatti/etc"

// cover puts a file with data, kept in memory, over root/etc/name, which must exist.
func cover(root, name string, data []byte, mode os.FileMode) error {
	target := filepath.Join(root, "etc", name)
	if link, err := os.Readlink(target); err == nil { // as to /run/systemd/resolve: there it can be written
		if !filepath.IsAbs(link) {
			link = filepath.Join("/etc", link)
		}
		target = filepath.Join(root, link)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err == nil && replaceFile(target, data, mode) == nil {
			return nil
		}
	}
	info, err := os.Lstat(target)
	if err != nil {
		return errors.New("there is no file that could be covered")
	}
	if !info.Mode().IsRegular() {
		return errors.New("what is there is no file that could be covered")
	}
	dir := filepath.Join(root, memory)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	source := filepath.Join(dir, name)
	if err := replaceFile(source, data, mode); err != nil {
		return err
	}
	return bind(source, target)
}

// coverHostKeys puts a copy of root/etc/ssh without host keys over it: the keys cannot be removed, but nobody can use them.
func coverHostKeys(root string) error {
	ssh, dir := filepath.Join(root, "etc/ssh"), filepath.Join(root, memory, "ssh")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(ssh)); err != nil {
		return err
	}
	if err := bind(dir, ssh); err != nil {
		return err
	}
	return removeHostKeys(root)
}

func bind(source, target string) error {
	return os.NewSyscallError("bind over "+target, unix.Mount(source, target, "", unix.MS_BIND, ""))
}
