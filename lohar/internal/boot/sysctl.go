package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bhatti/lohar/internal/plain"
	"golang.org/x/sys/unix"
)

// defaults are what Debian's own packages set at boot (procps, systemd, linux-sysctl-defaults) and what programs run into
// without; docs/guest.md has the comparison. An image's own files come later and win.
const defaults = `
fs.protected_fifos = 1
fs.protected_hardlinks = 1
fs.protected_regular = 2
fs.protected_symlinks = 1
fs.inotify.max_user_watches = 524288
fs.inotify.max_user_instances = 1024
-fs.file-max = 9223372036854775807
-fs.nr_open = 1073741816
kernel.core_uses_pid = 1
kernel.pid_max = 4194304
kernel.sysrq = 438
net.ipv4.conf.default.accept_source_route = 0
net.ipv4.conf.default.promote_secondaries = 1
net.ipv4.conf.default.rp_filter = 2
net.ipv4.conf.eth0.accept_source_route = 0
net.ipv4.conf.eth0.promote_secondaries = 1
net.ipv4.conf.eth0.rp_filter = 2
net.ipv4.ping_group_range = 0 2147483647
vm.max_map_count = 1048576
`

// sysctls applies the defaults, then sysctl.d(5) and sysctl.conf of the image below root, to proc (/proc/sys).
func sysctls(root, proc string) (failed []error) {
	failed = applySysctls(proc, "the agent", defaults)
	for _, path := range append(dropIns(root, "sysctl.d"), filepath.Join(root, "etc/sysctl.conf")) {
		text, err := dropIn(path)
		if err != nil {
			failed = append(failed, err)
		}
		failed = append(failed, applySysctls(proc, path, text)...)
	}
	return failed
}

const (
	// maxDropIn bounds one configuration file of an image, in bytes.
	maxDropIn = 256 << 10
	// maxDropIns bounds how many entries of one folder are looked at.
	maxDropIns = 1000
)

// dropIn reads a configuration file of the image. One that is not there, or a link to /dev/null, is empty.
func dropIn(path string) (string, error) {
	b, err := plain.Read(path, maxDropIn)
	if err == nil {
		return string(b), nil
	}
	if null, err2 := filepath.EvalSymlinks(path); os.IsNotExist(err) || err2 == nil && null == os.DevNull {
		return "", nil
	}
	return "", err
}

// dropIns are the *.conf files of a systemd-like directory by their base names: of one name, the first directory's counts.
func dropIns(root, kind string) (paths []string) {
	found := map[string]string{}
	var names []string
	for _, dir := range []string{"etc", "run", "usr/local/lib", "usr/lib", "lib"} {
		dir = filepath.Join(root, dir, kind)
		for _, name := range someNames(dir) {
			if strings.HasSuffix(name, ".conf") && found[name] == "" {
				found[name] = filepath.Join(dir, name)
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		paths = append(paths, found[name])
	}
	return paths
}

// someNames are names in a folder, at most maxDropIns; none when it is none.
func someNames(dir string) []string {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxDropIns)
	return names
}

func applySysctls(proc, from, text string) (failed []error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, optional := strings.CutPrefix(strings.TrimSpace(key), "-")
		if !ok || key == "" {
			continue // "-key": leave alone what others set
		}
		path := filepath.Join(proc, sysctlPath(key))
		if !strings.HasPrefix(path, proc+"/") {
			failed = append(failed, fmt.Errorf("%s: there is no sysctl %s", from, key))
			continue
		}
		paths := []string{path}
		if strings.ContainsAny(key, "*?[") { // matching costs an emulated boot more than all the rest
			paths, _ = filepath.Glob(path)
		}
		for _, path := range paths {
			err := set(path, strings.TrimSpace(value)+"\n")
			if os.IsNotExist(err) {
				err = fmt.Errorf("there is no sysctl %s", key)
			}
			if err != nil && !optional {
				failed = append(failed, fmt.Errorf("%s: %w", from, err))
			}
		}
	}
	return failed
}

func set(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// sysctlPath: the first separator of a key decides which one it uses (sysctl.d(5)).
func sysctlPath(key string) string {
	dot, slash := strings.IndexByte(key, '.'), strings.IndexByte(key, '/')
	if dot < 0 || slash >= 0 && slash < dot {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}
