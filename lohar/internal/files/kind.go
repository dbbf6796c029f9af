package files

import "golang.org/x/sys/unix"

// Kinds of what a name can stand for.
const (
	Regular   = "file"
	Directory = "dir"
	Symlink   = "symlink"
	Character = "char_device"
	Block     = "block_device"
	FIFO      = "fifo"
	Socket    = "socket"
)

// KindOf reads the kind from a mode of stat(2).
func KindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return Regular
	case unix.S_IFDIR:
		return Directory
	case unix.S_IFLNK:
		return Symlink
	case unix.S_IFCHR:
		return Character
	case unix.S_IFBLK:
		return Block
	case unix.S_IFIFO:
		return FIFO
	case unix.S_IFSOCK:
		return Socket
	}
	return "unknown"
}

// KindError refuses what is no regular file.
type KindError struct {
	Path, Kind string
}

var words = map[string]string{
	Directory: "directory", Symlink: "symbolic link", Character: "character device", Block: "block device", FIFO: "FIFO", Socket: "socket",
}

func (e *KindError) Error() string {
	if e.Kind == Directory {
		return e.Path + " is a directory"
	}
	return e.Path + " is a " + words[e.Kind] + ", not a regular file"
}
