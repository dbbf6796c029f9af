package proto

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// NonceSize is the number of random bytes that each side brings.
const NonceSize = 32

// Key is what both sides derive from the token; the token itself never travels after it was given.
func Key(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

// The two proofs differ in their label, so that neither can be sent back as the other.
const (
	guestLabel = "bhatti guest 3\x00"
	hostLabel  = "bhatti host 3\x00"
)

// GuestProof shows the host that the agent knows the token.
func GuestProof(key [sha256.Size]byte, hostNonce, guestNonce []byte) []byte {
	return prove(key, guestLabel, hostNonce, guestNonce)
}

// HostProof shows the agent that the host knows the token.
func HostProof(key [sha256.Size]byte, hostNonce, guestNonce []byte) []byte {
	return prove(key, hostLabel, hostNonce, guestNonce)
}

func prove(key [sha256.Size]byte, label string, hostNonce, guestNonce []byte) []byte {
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte(label))
	m.Write(hostNonce)
	m.Write(guestNonce)
	return m.Sum(nil)
}

// ParseNonce takes the hexadecimal form of HELLO and WELCOME.
func ParseNonce(s string) ([]byte, bool) {
	b, err := hex.DecodeString(s)
	return b, err == nil && len(b) == NonceSize
}
