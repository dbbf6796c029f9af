package files

import (
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

var temporary = regexp.MustCompile(`^\` + TempPrefix + `[0-9a-f]{16}$`)

// Tidy removes, once at boot, what transfers of a machine that died have left: agents before this one gave every unfinished
// file a name, this one does where a file system has no nameless ones. Looked at are the folders that uploads go to.
func Tidy() (removed []string) {
	homes, _ := filepath.Glob("/home/*")
	for _, dir := range append(homes, "/workspace", "/root", "/") {
		removed = append(removed, tidy(dir)...)
	}
	return removed
}

// maxLooked bounds what a boot spends on one folder.
const maxLooked = 20_000

func tidy(dir string) (removed []string) {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer d.Close()
	for looked := 0; looked < maxLooked; looked += 1000 {
		names, err := d.Readdirnames(1000)
		for _, name := range names {
			path := filepath.Join(dir, name)
			if !temporary.MatchString(name) {
				continue
			}
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && os.Remove(path) == nil {
				removed = append(removed, path)
			}
		}
		if err != nil {
			break
		}
	}
	return removed
}
