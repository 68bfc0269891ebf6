//go:build !linux || !(amd64 || arm64)

package poll

import (
	"errors"
	"net"
	"time"
)

// Poller is not there on this system: see New.
type Poller struct{}

// Task is part of a Poller.
type Task struct{}

// Socket is part of a Poller.
type Socket struct{}

// New says errors.ErrUnsupported.
func New(time.Time) (*Poller, error) { return nil, errors.ErrUnsupported }

func (*Poller) Take(*net.TCPConn) (*Socket, error) { return nil, errors.ErrUnsupported }
func (*Poller) Do(func(*Task))                     {}
func (*Poller) Cancel()                            {}
func (*Poller) Close() *Lags                       { return &Lags{} }

func (*Task) Sleep(time.Duration) error { return errors.ErrUnsupported }

func (*Socket) Read(*Task, []byte, time.Duration) (int, time.Duration, error) {
	return 0, 0, errors.ErrUnsupported
}
func (*Socket) Write(*Task, []byte, []byte, time.Duration) error { return errors.ErrUnsupported }
func (*Socket) Quiet() bool                                      { return false }
func (*Socket) Release()                                         {}
func (*Socket) Close() error                                     { return nil }
