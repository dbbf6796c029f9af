package machine

import (
	"errors"
	"path"
	"strings"
)

// Check accepts what the host may ask for: ext4 on one of our block devices, mounted below the root.
func (v Volume) Check() error {
	letter, ok := strings.CutPrefix(v.Device, "/dev/vd")
	if !ok || len(letter) != 1 || letter < "b" || letter > "z" {
		return errors.New("a volume's device must be /dev/vdb to /dev/vdz")
	}
	if v.FS != "ext4" {
		return errors.New("a volume's fs must be ext4")
	}
	if !path.IsAbs(v.Mount) || path.Clean(v.Mount) != v.Mount || v.Mount == "/" || strings.Contains(v.Mount, "\x00") || len(v.Mount) > 4095 {
		return errors.New("a volume's mount must be a clean absolute path other than /")
	}
	return nil
}
