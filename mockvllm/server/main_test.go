package server

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if code, ok := roleMain(); ok {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}
