// Package boot brings a guest from the kernel to a listening agent: modules, root disk, mounts, network.
package boot

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"bhatti/lohar/internal/agent"
)

// Run is PID 1. A step that fails is reported on the console and boot goes on as far as it can.
func Run() {
	// Caught, not ignored: an ignored signal would stay ignored in every command the agent runs.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	_ = os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	early := []step{
		{"mount /dev", func() error { return mount("devtmpfs", "/dev", "devtmpfs", syscall.MS_NOSUID, "mode=0755") }},
		{"mount /proc", func() error { return mount("proc", "/proc", "proc", safe, "") }},
		{"mount /sys", func() error { return mount("sysfs", "/sys", "sysfs", safe, "") }},
		{"load modules", loadModules},
		{"root disk", mountRoot},
		{"switch root", switchRoot},
	}
	for _, s := range early {
		if err := s.do(); err != nil {
			fmt.Println("lohar: fatal:", s.name+":", err)
			powerOff()
		}
	}
	late := []step{
		{"loopback", func() error { return linkUp("lo") }},
		{"network", configureNetwork},
		{"mounts", mountRest},
		{"cgroups", prepareCgroups},
	}
	for _, s := range late {
		if err := s.do(); err != nil {
			fmt.Println("lohar:", s.name+":", err)
		}
	}
	if cmdline := readCmdline(); strings.Contains(cmdline, "bhatti.test=refuse-configure") {
		agent.RefuseClone = true
	}
	agent.PowerOff = powerOff
	go agent.ReapOrphans()
	if err := agent.ListenAndServe("0.0.0.0:1024", agent.NewServer("", true)); err != nil {
		fmt.Println("lohar: fatal:", err)
	}
	powerOff()
}

type step struct {
	name string
	do   func() error
}

func readCmdline() string {
	b, _ := os.ReadFile("/proc/cmdline")
	return string(b)
}

// powerOff flushes the disks and ends the VM.
func powerOff() {
	syscall.Sync()
	_ = syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}
