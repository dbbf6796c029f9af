package shutdown

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]wish{
		"reboot":            {reboot: true},
		"reboot -f":         {reboot: true, force: true},
		"poweroff":          {},
		"halt --force":      {force: true},
		"halt --reboot":     {reboot: true},
		"reboot -p":         {},
		"shutdown":          {},
		"shutdown -h now":   {},
		"shutdown -r now":   {reboot: true},
		"shutdown -r +2":    {reboot: true, delay: 2 * time.Minute},
		"shutdown --reboot": {reboot: true},
	} {
		argv := strings.Fields(line)
		if got, err := parse(argv[0], argv[1:]); err != nil || got != want {
			t.Errorf("%s: %+v %v", line, got, err)
		}
	}
	for _, line := range []string{"reboot now", "shutdown 12:00", "shutdown +x", "poweroff -z"} {
		argv := strings.Fields(line)
		if _, err := parse(argv[0], argv[1:]); err == nil {
			t.Error(line, "was accepted")
		}
	}
}

func TestCalled(t *testing.T) {
	if !Called("/usr/local/sbin/reboot") || Called("lohar") || Called("/init") {
		t.Error("names")
	}
}
