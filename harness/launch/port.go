package launch

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
)

// FreePort returns a loopback port that nobody listens on. It is not kept: a
// server that takes it later must be checked by its served name, as
// [Process.WaitReady] does.
func FreePort() (int, error) {
	// Listening without SO_REUSEPORT fails on a port where anybody listens,
	// with that option or without, so a port that we got is free.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("no free port on 127.0.0.1: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// UniqueName makes a served model name that no other server has: the model's
// name with a random end.
func UniqueName(model string) (string, error) {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return model + "-" + hex.EncodeToString(b[:]), nil
}
