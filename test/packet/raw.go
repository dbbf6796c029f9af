package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"syscall"
	"time"
)

const pingID = 0x6268

// ping sends one echo request; with a SOURCE the IP header is our own, so that the kernel cannot correct it.
func ping(args []string) error {
	target := net.ParseIP(args[0]).To4()
	hear, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	message := echo(8, nil)
	send := hear
	if len(args) > 1 {
		if send, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW); err != nil {
			return err
		}
		message = append(ipv4(net.ParseIP(args[1]).To4(), target, syscall.IPPROTO_ICMP, len(message)), message...)
	}
	if err := syscall.Sendto(send, message, 0, &syscall.SockaddrInet4{Addr: [4]byte(target)}); err != nil {
		return err
	}
	end := time.Now().Add(time.Second)
	packet := make([]byte, 1500)
	for time.Now().Before(end) {
		limit := syscall.NsecToTimeval(int64(time.Until(end)) + 1000)
		syscall.SetsockoptTimeval(hear, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
		n, _, err := syscall.Recvfrom(hear, packet, 0)
		if err == nil && n >= 28 && packet[20] == 0 && binary.BigEndian.Uint16(packet[24:]) == pingID && net.IP(packet[12:16]).Equal(target) {
			fmt.Println("pong")
			return nil
		}
	}
	fmt.Println("silence")
	return nil
}

func frame(args []string) error {
	src, dst := net.ParseIP(args[3]).To4(), net.ParseIP(args[4]).To4()
	datagram := make([]byte, 8)
	binary.BigEndian.PutUint16(datagram, 4242)
	binary.BigEndian.PutUint16(datagram[2:], uint16(number(args[5])))
	binary.BigEndian.PutUint16(datagram[4:], 8)
	return put(args[0], args[1], args[2], 0x0800, append(ipv4(src, dst, syscall.IPPROTO_UDP, 8), datagram...))
}

func frame6(args []string) error {
	src, dst := net.ParseIP(args[3]).To16(), net.ParseIP(args[4]).To16()
	pseudo := append(append(append([]byte{}, src...), dst...), 0, 0, 0, 8, 0, 0, 0, syscall.IPPROTO_ICMPV6)
	message := echo(128, pseudo)
	head := []byte{0x60, 0, 0, 0, 0, byte(len(message)), syscall.IPPROTO_ICMPV6, 64}
	return put(args[0], args[1], args[2], 0x86dd, append(append(append(head, src...), dst...), message...))
}

func arp(args []string) error {
	mac, sender := hardware(args[1]), net.ParseIP(args[2]).To4()
	body := []byte{0, 1, 8, 0, 6, 4, 0, 2}
	body = append(append(append(append(body, mac...), sender...), 255, 255, 255, 255, 255, 255), sender...)
	return put(args[0], "ff:ff:ff:ff:ff:ff", args[1], 0x0806, body)
}

func sniff(args []string) error {
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, int(htons(syscall.ETH_P_ALL)))
	if err != nil {
		return err
	}
	iface, err := net.InterfaceByName(args[0])
	if err != nil {
		return err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: htons(syscall.ETH_P_ALL), Ifindex: iface.Index}); err != nil {
		return err
	}
	fmt.Println("ready")
	end := time.Now().Add(time.Duration(number(args[1])) * time.Millisecond)
	seen := map[string]bool{}
	buffer := make([]byte, 2048)
	for time.Now().Before(end) {
		limit := syscall.NsecToTimeval(int64(time.Until(end)) + 1000)
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
		n, from, err := syscall.Recvfrom(fd, buffer, 0)
		if err != nil || n < 14 || from.(*syscall.SockaddrLinklayer).Pkttype == syscall.PACKET_OUTGOING {
			continue
		}
		if kind := describe(buffer[:n]); !seen[kind] {
			seen[kind] = true
			fmt.Println(kind)
		}
	}
	return nil
}

func describe(f []byte) string {
	from, body := net.HardwareAddr(f[6:12]), f[14:]
	switch kind := binary.BigEndian.Uint16(f[12:]); {
	case kind == 0x0806 && len(body) >= 28:
		return fmt.Sprintf("arp %v is %v from %v", net.IP(body[14:18]), net.HardwareAddr(body[8:14]), from)
	case kind == 0x0800 && len(body) >= 24 && (body[9] == syscall.IPPROTO_UDP || body[9] == syscall.IPPROTO_TCP):
		port := binary.BigEndian.Uint16(body[int(body[0]&15)*4+2:])
		return fmt.Sprintf("ip %d %v > %v:%d from %v", body[9], net.IP(body[12:16]), net.IP(body[16:20]), port, from)
	case kind == 0x0800 && len(body) >= 20:
		return fmt.Sprintf("ip %d %v > %v from %v", body[9], net.IP(body[12:16]), net.IP(body[16:20]), from)
	case kind == 0x86dd && len(body) >= 40:
		return fmt.Sprintf("ip6 %d %v > %v from %v", body[6], net.IP(body[8:24]), net.IP(body[24:40]), from)
	default:
		return fmt.Sprintf("frame %04x from %v", kind, from)
	}
}

func put(name, to, from string, kind uint16, body []byte) error {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	whole := append(append(append([]byte{}, hardware(to)...), hardware(from)...), byte(kind>>8), byte(kind))
	return syscall.Sendto(fd, append(whole, body...), 0, &syscall.SockaddrLinklayer{Ifindex: iface.Index})
}

// ipv4 is a header for `length` bytes of `protocol`.
func ipv4(src, dst net.IP, protocol byte, length int) []byte {
	head := make([]byte, 20)
	head[0], head[8], head[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(head[2:], uint16(20+length))
	copy(head[12:], src)
	copy(head[16:], dst)
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	return head
}

// echo is an echo request of ICMP (8) or ICMPv6 (128, with its pseudo header).
func echo(kind byte, pseudo []byte) []byte {
	message := []byte{kind, 0, 0, 0, pingID >> 8, pingID & 255, 0, 1}
	binary.BigEndian.PutUint16(message[2:], checksum(append(append([]byte{}, pseudo...), message...)))
	return message
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func hardware(text string) net.HardwareAddr {
	mac, err := net.ParseMAC(text)
	if err != nil {
		panic(err)
	}
	return mac
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }
