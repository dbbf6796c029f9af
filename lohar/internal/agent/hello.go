package agent

import (
	"bufio"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"bhatti/lohar/internal/proto"
)

// hello greets the host. Where there is a token, both sides prove that they know it and neither says it: what has taken
// our port learns nothing, and cannot pass for us.
func (c *conn) hello(r *bufio.Reader) error {
	_ = c.nc.SetReadDeadline(time.Now().Add(helloTimeout))
	f, err := proto.Expect(r, proto.Hello)
	if err != nil {
		return helloError(err, "HELLO")
	}
	var h struct {
		V     int    `json:"v"`
		Nonce string `json:"nonce"`
	}
	if json.Unmarshal(f.Payload, &h) != nil {
		return fail("bad_request", "HELLO is not JSON")
	}
	if h.V != proto.Version {
		return fail("bad_request", fmt.Sprintf("protocol version %d is not spoken, only %d", h.V, proto.Version))
	}
	theirs, ok := proto.ParseNonce(h.Nonce)
	if !ok {
		return fail("bad_request", "the nonce of HELLO must be 32 bytes in hexadecimal digits")
	}
	configured, failed, generation := c.s.state()
	welcome := map[string]any{
		"v": proto.Version, "agent": c.s.Version, "configured": configured && !failed, "generation": generation,
	}
	key, locked := c.s.key()
	ours := make([]byte, proto.NonceSize)
	if locked {
		_, _ = rand.Read(ours) // never fails (crypto/rand)
		welcome["nonce"] = hex.EncodeToString(ours)
		welcome["proof"] = hex.EncodeToString(proto.GuestProof(key, theirs, ours))
	}
	if err := c.sendJSON(proto.Welcome, welcome); err != nil {
		return err
	}
	if locked {
		f, err := proto.Expect(r, proto.Proof)
		if err != nil {
			return helloError(err, "PROOF")
		}
		if subtle.ConstantTimeCompare(f.Payload, proto.HostProof(key, theirs, ours)) != 1 {
			return fail("unauthorized", "wrong token")
		}
	}
	return c.nc.SetReadDeadline(time.Time{})
}

func helloError(err error, what string) error {
	var ne net.Error
	switch {
	case errors.As(err, &ne) && ne.Timeout():
		return fail("timeout", "no "+what+" within 5 s")
	case errors.Is(err, proto.ErrType):
		return fail("unauthorized", what+" must come first")
	}
	return fail("bad_request", err.Error())
}
