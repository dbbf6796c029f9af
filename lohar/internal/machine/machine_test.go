package machine

import (
	"encoding/binary"
	"testing"
)

func TestParseSuper(t *testing.T) {
	s := make([]byte, 1024)
	le := binary.LittleEndian
	le.PutUint16(s[0x38:], 0xef53)
	le.PutUint32(s[0x18:], 2)
	le.PutUint32(s[4:], 5)
	le.PutUint32(s[0x150:], 1)
	if size, blocks, err := parseSuper(s); size != 4096 || blocks != 5 || err != nil {
		t.Error(size, blocks, err)
	}
	le.PutUint32(s[0x60:], 0x80)
	if _, blocks, _ := parseSuper(s); blocks != 1<<32+5 {
		t.Error(blocks)
	}
	if _, _, err := parseSuper(make([]byte, 1024)); err == nil {
		t.Error("zeroes are no file system")
	}
}

func TestVolumeCheck(t *testing.T) {
	for v, ok := range map[Volume]bool{
		{Device: "/dev/vdb", Mount: "/data", FS: "ext4"}:    true,
		{Device: "/dev/vda", Mount: "/data", FS: "ext4"}:    false,
		{Device: "/dev/vdbb", Mount: "/data", FS: "ext4"}:   false,
		{Device: "/dev/vdb", Mount: "/", FS: "ext4"}:        false,
		{Device: "/dev/vdb", Mount: "/a/../b", FS: "ext4"}:  false,
		{Device: "/dev/vdb", Mount: "relative", FS: "ext4"}: false,
		{Device: "/dev/vdb", Mount: "/data", FS: "proc"}:    false,
	} {
		if err := v.Check(); (err == nil) != ok {
			t.Errorf("%+v: %v", v, err)
		}
	}
}
