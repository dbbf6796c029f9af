package boot

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// modulesLabel names the image that the host attaches to every machine (src/kernel/modules-image.ts).
const modulesLabel = "bhatti-modules"

// modulesImage mounts the kernel's modules where modprobe looks, and makes the device nodes whose opening loads one.
func modulesImage() (failed []error) {
	device := labelled("/dev/vd", modulesLabel)
	if device == "" {
		return nil // a host that brings none
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return []error{err}
	}
	dir := filepath.Join("/lib/modules", unix.ByteSliceToString(name.Release[:]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return []error{err}
	}
	if err := unix.Mount(device, dir, "ext4", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, ""); err != nil {
		return []error{fmt.Errorf("mount %s: %w", dir, err)}
	}
	b, err := os.ReadFile(filepath.Join(dir, "modules.devname"))
	if err != nil {
		return []error{err}
	}
	return append(nodes("/dev", string(b)), loadWanted("/")...)
}

// labelled finds the block device, <prefix>b to <prefix>z, with an ext4 file system of that label (ext4 super block,
// s_volume_name).
func labelled(prefix, label string) string {
	for letter := 'b'; letter <= 'z'; letter++ {
		device := prefix + string(letter)
		f, err := os.Open(device)
		if err != nil {
			continue
		}
		super := make([]byte, 0x88)
		_, err = f.ReadAt(super, 1024)
		f.Close()
		if err == nil && binary.LittleEndian.Uint16(super[0x38:]) == 0xef53 && strings.TrimRight(string(super[0x78:0x88]), "\x00") == label {
			return device
		}
	}
	return ""
}

// everybodys are nodes that udev gives to all users (50-udev-default.rules).
var everybodys = []string{"net/tun", "vfio/vfio", "fuse"}

// nodes makes the device nodes of modules.devname (kmod-static-nodes.service(8)): lines "module node c10:200".
func nodes(dev, list string) (failed []error) {
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if len(f) != 3 || strings.HasPrefix(f[0], "#") || strings.Contains(f[1], "..") {
			continue
		}
		major, minor, ok := strings.Cut(f[2][1:], ":")
		x, err1 := strconv.ParseUint(major, 10, 12)
		y, err2 := strconv.ParseUint(minor, 10, 20)
		if !ok || err1 != nil || err2 != nil {
			continue
		}
		kind, perm := uint32(unix.S_IFCHR), uint32(0o600)
		if f[2][0] == 'b' {
			kind = unix.S_IFBLK
		}
		if slices.Contains(everybodys, f[1]) {
			perm = 0o666
		}
		path := filepath.Join(dev, f[1])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			failed = append(failed, err)
			continue
		}
		if err := unix.Mknod(path, kind|perm, int(unix.Mkdev(uint32(x), uint32(y)))); err != nil && err != unix.EEXIST {
			failed = append(failed, &os.PathError{Op: "mknod", Path: path, Err: err})
			continue
		}
		_ = os.Chmod(path, os.FileMode(perm)) // whatever the umask
	}
	return failed
}

// loadWanted loads what the image asks for with its own modprobe.
func loadWanted(root string) []error {
	names, failed := wanted(root)
	if len(names) == 0 {
		return failed
	}
	return append(failed, load("/sbin/modprobe", names)...)
}

// wanted are the modules that the image asks for: modules-load.d(5), /etc/modules.
func wanted(root string) (names []string, failed []error) {
	for _, path := range append(dropIns(root, "modules-load.d"), filepath.Join(root, "etc/modules")) {
		text, err := dropIn(path)
		if err != nil {
			failed = append(failed, err)
		}
		for line := range strings.Lines(text) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word != "" && !strings.ContainsAny(word[:1], "#;-") {
				names = append(names, word)
			}
		}
	}
	return names, failed
}

func load(modprobe string, names []string) []error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, modprobe, append([]string{"-a", "-b"}, names...)...)
	command.WaitDelay = time.Second // what it left running may hold its output open
	out, err := command.CombinedOutput()
	if err != nil {
		return []error{fmt.Errorf("modprobe %.300s: %w: %.300s", strings.Join(names, " "), err, out)}
	}
	return nil
}
