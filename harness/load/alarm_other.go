//go:build !linux

package load

import (
	"errors"
	"time"
)

// alarm is what Linux has.
type alarm struct{}

func newAlarm() (*alarm, error) { return nil, errors.ErrUnsupported }

func (*alarm) wait(time.Duration) error { return errors.ErrUnsupported }

func (*alarm) close() {}
